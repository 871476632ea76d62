"""The verbs that run one system: ``finetune``, ``pretrain``, ``distill``, ``selftrain``, ``adapt``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
import torch.nn.functional as F

from understudy import evaluate, models, systems
from understudy.data.found import Found
from understudy.data.samples import Samples
from understudy.data.source import open_source
from understudy.data.split import hold_out
from understudy.engine.run import Run
from understudy.errors import UserError
from understudy.models.student import Student
from understudy.plans.fit import SplitSettings
from understudy.systems.base import Outcome, Stream, Task
from understudy.teachers.base import Teacher
from understudy.teachers.remembered import Memory, Remembered
from understudy.teachers.stored import Stored
from understudy.verbs import answers
from understudy.verbs.conclude import Ending, conclude, reserved
from understudy.verbs.fidelity import faster_and_smaller, fidelity
from understudy.verbs.fit import split
from understudy.verbs.measured import measure
from understudy.verbs.result import Result, Trained, figure, gain_figure
from understudy.verbs.session import Reading, Session, settings_of


def finetune(
    data: str | Path,
    *,
    labels: str | Path | None = None,
    test: str | Path | None = None,
    student: str = "auto",
    budget: str | None = None,
    **options: Unpack[Reading],
) -> Trained:
    """Train on the labels alone, with the student, the augmentation and the split of ``fit``: the control of everything else."""
    given = {"data": data, "labels": labels, "test": test, "student": student, "budget": budget}
    return _from_labels("finetune", "supervised", given, options)


def selftrain(
    data: str | Path,
    *,
    system: str = "noisy-student",
    student: str = "auto",
    labels: str | Path | None = None,
    test: str | Path | None = None,
    budget: str | None = None,
    verifier: str | Path | None = None,
    **options: Unpack[Reading],
) -> Trained:
    """Let a model label what has no label and learn from what it is sure of; or, with prompts, let it learn from answers of its own.

    ``verifier``: for systems of language models such as ``rest-em``, a Python file with a function ``verify(prompt, answer, reference)`` that says whether an answer is right;
    without it, an answer is right where it is the known one.
    """
    if answers.writes(system):
        if labels is not None:
            raise UserError(
                f"{system} reads prompts and answers from columns of the data; leave --labels out and name them with --text-column and --label-column"
            )
        asked = {"data": data, "system": system, "student": student, "test": test, "budget": budget, "verifier": verifier}
        return answers.train("selftrain", system, asked, options)
    if verifier is not None:
        raise UserError(f"{system} learns from labels and its own answers and takes no verifier; leave --verifier out")
    given = {"data": data, "system": system, "student": student, "labels": labels, "test": test, "budget": budget}
    return _from_labels("selftrain", system, given, options)


def _from_labels(verb: str, slug: str, given: dict[str, Any], options: Any) -> Trained:
    kind = systems.get(slug)
    session = Session(verb, given, options, Reading, settings={**settings_of(slug), "fit": SplitSettings}, defaults=kind.defaults)
    found, start = session.read_for(given["student"], given["data"], labels=given["labels"], test=given["test"])
    parts = split(session, found, session.resolved.of["fit"])  # type: ignore[arg-type]
    allowed = session.time_for(reserved(start, parts.train, parts.test))
    with session.writing(training=allowed.get("train.budget")) as run:
        task = Task(parts.train, start, session.settings.changed(allowed), run, parts.validation, chosen=session.resolved.chosen)
        outcome, seconds = _learned(session, slug, task)
        stages = _stages(run, parts.validation) or [_stage(verb, outcome.student, parts.validation, seconds)]
        return conclude(session, run, Ending(outcome.student, parts.train, parts.test, parts.test_origin, stages=stages, extra={"system": slug}))


def pretrain(data: str | Path, *, system: str = "sdfp", student: str = "auto", budget: str | None = None, **options: Unpack[Reading]) -> Trained:
    """Train a backbone on data whose labels, if there are any, are not used; where there are, a probe says what it is worth."""
    kind = systems.get(system)
    given = {"data": data, "system": system, "student": student, "budget": budget}
    session = Session("pretrain", given, options, Reading, settings=settings_of(system), defaults=kind.defaults)
    found, start = session.read_for(student, data, headless=True)
    allowed = session.time_for(reserved(start, found.train, None))
    with session.writing(training=allowed.get("train.budget")) as run:
        train = found.train.relabelled(torch.full((len(found.train),), -1)) if "labels" not in kind.card.needs else found.train
        outcome, seconds = _learned(session, system, Task(train, start, session.settings.changed(allowed), run, chosen=session.resolved.chosen))
        figures = {"RankMe": f"{evaluate.label_free(evaluate.features(outcome.student, _some(train, 1000))).rankme:.1f} of {start.backbone.width}"}
        for name, model in (("before", start), ("after", outcome.student)):
            figures |= _probed(f"{name} pre-training", model, found, session)
        stages = [{"name": system, "val": None, "kept": True, "seconds": seconds}]
        return conclude(session, run, Ending(outcome.student, found.train, stages=stages, figures=figures, extra={"system": system}))


def distill(
    data: str | Path,
    *,
    teacher: Any = None,
    student: str | Sequence[str] = "auto",
    system: str = "kd",
    labels: str | Path | None = None,
    test: str | Path | None = None,
    budget: str | None = None,
    **options: Unpack[Reading],
) -> Result:
    """Train a model to answer as ``teacher`` does, and say how faithful and how much faster it is. Labels help if there are any.

    Several students learn from one pass of the teacher, each as it would alone: what the teacher says to the first is remembered for the others.
    """
    if not teacher:
        raise UserError(
            "distill learns from a teacher; give --teacher with timm:NAME, hf:NAME, run:FOLDER, labels:FOLDER, annotations:FILE or a server's address"
        )
    given = {"data": data, "teacher": teacher, "system": system, "labels": labels, "test": test, "budget": budget}
    students = [student] if isinstance(student, str) else list(student)
    if len(students) > 1:
        from understudy.verbs.several import several

        return several(students, given, options, Reading)
    return distilled({**given, "student": students[0]}, options)


def distilled(given: dict[str, Any], options: Any, memory: Memory | None = None) -> Trained:
    """``distill`` for one student; ``memory`` is where the teacher's answers are kept for the next."""
    data, teacher, student, system = (given[name] for name in ("data", "teacher", "student", "system"))
    labels, test, budget = (given[name] for name in ("labels", "test", "budget"))
    kind = systems.get(system)
    if answers.writes(system):
        asked = {"data": data, "teacher": teacher, "student": student, "system": system, "test": test, "budget": budget}
        return answers.train("distill", system, asked, options)
    session = Session("distill", given, options, Reading, settings={**settings_of(system), "fit": SplitSettings}, defaults=kind.defaults)
    found, start = session.read_for(student, data, labels=labels, test=test)
    knows = session.teacher(teacher, found, answers=kind.card.family == "kd-logit")
    assert knows is not None, "it was given"
    if memory is not None and not isinstance(knows, Stored):
        knows = Remembered(knows, memory)
    train, start = _with_classes(found.train, start, knows, session)
    parts: Any = session.resolved.of["fit"]
    held, origin, validation = found.test, "--test, looked at once", None
    if held is None:
        if len(train.labelled):
            both = split(session, replace(found, train=train), parts)
            train, validation, held, origin = both.train, both.validation, both.test, both.test_origin
        else:
            train, held = hold_out(train, min(parts.test, 500 / len(train)), session.key("test"))
            origin = f"{len(held)} samples, held out"
    allowed = session.time_for(reserved(start, train, held))
    with session.writing(training=allowed.get("train.budget")) as run:
        task = Task(train, start, session.settings.changed(allowed), run, validation, knows, chosen=session.resolved.chosen)
        outcome, seconds = _learned(session, system, task)
        figures, extra = _beside(outcome.student, knows, held, train)
        stages = (
            [{"name": system, "val": None, "kept": True, "seconds": seconds}] if validation is None else [_stage(system, outcome.student, validation, seconds)]
        )
        measured = held if len(held.labelled) else None
        return conclude(session, run, Ending(outcome.student, train, measured, origin, stages=stages, figures=figures, extra={"system": system, **extra}))


def adapt(
    run: str | Path,
    data: str | Path,
    *,
    system: str = "rmt",
    labels: str | Path | None = None,
    **options: Unpack[Reading],
) -> Trained:
    """Predict on data that pass once, in their order, and let the model follow them. Labels, if there are any, only measure."""
    kind = systems.get(system)
    if not issubclass(kind, Stream):
        raise UserError(f"{system} does not work on streams; choose one that does, such as rmt or cotta")
    start = models.load(Path(run))
    if start.head is None:
        raise UserError(f"the model in {run} has no classes, so it predicts nothing; finetune it first")
    given = {"run": run, "data": data, "system": system, "labels": labels}
    session = Session("adapt", given, options, Reading, settings=settings_of(system), defaults=kind.defaults)
    found = session.read(data, labels=labels, like=start)
    source = _source(Path(run), start)
    with session.writing() as into:
        hidden = found.train.relabelled(torch.full((len(found.train),), -1))
        task = Task(hidden, start, session.settings, into, also=source, chosen=session.resolved.chosen)
        outcome, seconds = _learned(session, system, task)
        extra = {"system": system, "predictions": str(into.folder / "predictions.jsonl"), **_online(start, found.train, outcome.facts["predictions"])}
        stages = [{"name": system, "val": None, "kept": True, "seconds": seconds}]
        meaning = "the same model, not adapted, on the same samples"
        return conclude(session, into, Ending(outcome.student, hidden, test_origin="the stream itself", control_meaning=meaning, stages=stages, extra=extra))


def _learned(session: Session, slug: str, task: Task) -> tuple[Outcome, float]:
    """Run a system and say how long it took."""
    kind = systems.get(slug)
    task.run.listener.stage(slug, kind.card.title)
    began = time.monotonic()
    outcome = kind(session.resolved.of[slug], task).run()
    return outcome, round(time.monotonic() - began, 2)


def _stage(name: str, student: Student, validation: Samples, seconds: float) -> dict[str, Any]:
    """A line of ``result.json`` for a model that was trained."""
    judged = measure(student, validation).result
    return {"name": name, "val": None if judged is None else judged.value, "kept": True, "seconds": seconds}


def _stages(run: Run, validation: Samples) -> list[dict[str, Any]]:
    """The stages that a system went through, from what they left on disk; the last of them is the result."""
    left = [(path.parent, run.inner("stages", path.parent.name).read("stage.json")) for path in run.folder.glob("stages/*/stage.json")]
    left.sort(key=lambda stage: (stage[0] / "stage.json").stat().st_mtime)
    return [_stage(folder.name, models.load(folder), validation, facts["seconds"]) for folder, facts in left if facts is not None]


def _some(samples: Samples, most: int) -> Samples:
    return samples.take(torch.arange(min(most, len(samples))))


def _probed(name: str, student: Student, found: Found, session: Session) -> dict[str, str]:
    """Accuracy of probes of the features on a quarter of the labels, where there are enough."""
    labelled = found.train.labelled
    if len(labelled) < 20 or len(labelled.labels.unique()) < 2:
        return {}
    train, test = hold_out(labelled, 0.25, session.key("test"))
    seen = (evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels)
    linear, nearest = evaluate.linear_probe(*seen), evaluate.knn(*seen)
    return {name: f"linear probe {linear.value:.1%} ({linear.low:.1%} to {linear.high:.1%}), nearest neighbours {nearest.value:.1%}, {linear.n} test samples"}


def _with_classes(samples: Samples, student: Student, teacher: Teacher, session: Session) -> tuple[Samples, Student]:
    """Data and student with the teacher's classes, where the data name none."""
    if samples.classes or not teacher.classes:
        return samples, student
    return replace(samples, classes=teacher.classes), student.with_head(teacher.classes, session.key("student"))


def _beside(student: Student, teacher: Teacher, held: Samples, train: Samples) -> tuple[dict[str, str], dict[str, Any]]:
    """Student and teacher compared: for eyes, and for ``result.json``. Stored labels are compared where there are some, if need be on what was learned."""
    samples, which = held, "samples"
    if isinstance(teacher, Stored):
        samples = held.take(teacher.store.have(held.keys, 0))
        if not len(samples):
            samples, which = _some(train.take(teacher.store.have(train.keys, 0)), 1000), "training samples (the others have no stored label)"
    ratios = faster_and_smaller(student, teacher, samples)
    figures: dict[str, str] = {}
    extra: dict[str, Any] = {}
    if student.head is not None:
        found = fidelity(student, teacher, samples)
        figures = {"fidelity": f"the same answer as the teacher on {found.agreement:.1%} of {len(samples):,} {which}, KL {found.kl:.3f} nats"}
        extra = {"fidelity": {"agreement": found.agreement, "kl": found.kl, "samples": len(samples)}}
    if ratios is not None:
        extra["faster"], extra["smaller"] = ratios
        figures["beside it"] = f"{ratios[0]:.1f} times as fast, {ratios[1]:.1f} times smaller"
    return figures, extra


def _online(start: Student, stream: Samples, predictions: Sequence[int]) -> dict[str, Any]:
    """Accuracy of what was said while the stream passed, beside the model that stood still; empty without labels."""
    if not len(stream.labelled):
        return {}
    said = F.one_hot(torch.tensor(predictions) % (len(stream.classes) + 1)).float()  # -1, of none of the classes, is a class more, which is never right
    before = evaluate.predict(start, stream)
    return {
        "control": figure(evaluate.accuracy(before, stream.labels)),
        "result": figure(evaluate.accuracy(said, stream.labels)),
        "gain": gain_figure(evaluate.paired_gain(before, said, stream.labels)),
    }


def _source(folder: Path, student: Student) -> dict[str, Samples]:
    """The labelled samples that a model was trained on, for systems that replay them; nothing where they are not to be had any more."""
    about = Run(folder).read("run.json")
    if about is None or "data" not in about["arguments"]:
        return {}
    known = about["arguments"]
    where = {name: Path(about["cwd"], known[name]) for name in ("data", "labels") if name in known}
    if not all(path.exists() for path in where.values()):
        return {}
    columns = {name: known[name] for name in ("text_column", "label_column", "id_column") if name in known}
    labelled = open_source(where["data"], labels=where.get("labels"), modality=student.modality, classes=student.classes, **columns).train.labelled
    return {"source": labelled} if len(labelled) else {}
