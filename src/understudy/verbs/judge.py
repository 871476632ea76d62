"""``evaluate`` a model, and run the ``claim`` of a system again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, Unpack

from joblib import cpu_count
from rich.markup import escape
from torch import Tensor

from understudy import claims, maths, models, nearest
from understudy import evaluate as scores
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.evaluate import Proportion
from understudy.models import zero_shot
from understudy.models.student import Drawing, Student
from understudy.report.page import size
from understudy.teachers.base import Teacher
from understudy.verbs.console import listener
from understudy.verbs.fidelity import faster_and_smaller, fidelity
from understudy.verbs.result import Result, facts, figure, table
from understudy.verbs.session import Common, Reading, Session, refuse_settings

Figure = tuple[Any, str]
"""A measure for ``--json``, and in words."""


@dataclass
class Subject:
    """A model and the samples it is judged on; ``train`` are labelled ones for probes to learn from, None where a half of ``test`` has to do."""

    student: Student
    test: Samples
    train: Samples | None
    teacher: Teacher | None
    seed: int

    @cached_property
    def logits(self) -> Tensor:
        return scores.predict(self.student, self.test)

    @cached_property
    def probed(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features and labels to learn a probe from, features and labels to judge it by."""
        train, test = (self.train, self.test) if self.train is not None else hold_out(self.test.labelled, 0.5, self.seed)
        return scores.features(self.student, train), train.labels, scores.features(self.student, test), test.labels

    @cached_property
    def pooled(self) -> Tensor:
        return scores.features(self.student, self.test)

    @property
    def known(self) -> Tensor:
        return self.test.labels >= 0


def _share(found: Proportion) -> Figure:
    return figure(found), f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%}, {found.n:,} samples)"


def _accuracy(on: Subject) -> Figure:
    found, words = _share(scores.accuracy(on.logits, on.test.labels))
    f1 = scores.macro_f1(on.logits, on.test.labels)
    return {**found, "macro_f1": f1}, f"{words}, macro F1 {f1:.1%}"


def _drawn(on: Subject) -> Figure:
    assert isinstance(on.student, Drawing), "checked before"
    counted = scores.drawn(on.student, on.test)
    found = counted.proportion()
    answer, words = figure(found, counted.metric) or {}, f"{counted.metric} {found.value:.1%} ({found.low:.1%} to {found.high:.1%}, {found.n:,} images)"
    if isinstance(counted, scores.BoxMatches):
        answer["strict"] = counted.strict()
        words += f", at overlaps from .5 to .95 {answer['strict']:.1%}"
    return answer, words


def _calibration(on: Subject) -> Figure:
    error = maths.ece(on.logits[on.known].softmax(-1), on.test.labels[on.known])
    return error, f"expected error of the confidence {100 * error:.1f} points"


def _few_shot(on: Subject) -> Figure:
    found = scores.few_shot(*on.probed, key=on.seed)
    return {
        "shots": found.shots,
        "mean": found.mean,
        "standard_error": found.standard_error,
    }, f"{found.mean:.1%} ± {found.standard_error:.1%} with {found.shots} labels a class"


def _rankme(on: Subject) -> Figure:
    rank = scores.label_free(on.pooled).rankme
    return rank, f"effective rank {rank:.1f} of {on.pooled.shape[1]}"


def _label_free(on: Subject) -> Figure:
    found = scores.label_free(on.pooled, on.logits.softmax(-1))
    return {
        "entropy": found.entropy,
        "neighbourhood_density": found.neighbourhood_density,
    }, f"entropy {found.entropy:.3f} nats, neighbourhood density {found.neighbourhood_density:.3f}"


def _speed(on: Subject) -> Figure:
    found = scores.size_and_speed(on.student, on.test)
    said = f"{size(found.parameters, '')} parameters, {size(found.bytes)}, {found.milliseconds:.3g} ms a sample on {found.device}"
    return {"parameters": found.parameters, "bytes": found.bytes, "milliseconds": found.milliseconds, "device": found.device}, said


def _fidelity(on: Subject) -> Figure:
    assert on.teacher is not None, "checked before"
    found, ratios = fidelity(on.student, on.teacher, on.test), faster_and_smaller(on.student, on.teacher, on.test)
    beside = f", {ratios[0]:.1f} times as fast, {ratios[1]:.1f} times smaller" if ratios else ""
    return {"agreement": found.agreement, "kl": found.kl}, f"the teacher's answer on {found.agreement:.1%} of the samples, KL {found.kl:.3f} nats{beside}"


MEASURES: dict[str, tuple[Callable[[Subject], Figure], frozenset[str]]] = {
    "accuracy": (_accuracy, frozenset({"labels", "head"})),
    "calibration": (_calibration, frozenset({"labels", "head"})),
    "knn": (lambda on: _share(scores.knn(*on.probed)), frozenset({"labels"})),
    "linear": (lambda on: _share(scores.linear_probe(*on.probed, key=on.seed)), frozenset({"labels"})),
    "few-shot": (_few_shot, frozenset({"labels"})),
    "rankme": (_rankme, frozenset()),
    "label-free": (_label_free, frozenset({"head"})),
    "speed": (_speed, frozenset()),
    "fidelity": (_fidelity, frozenset({"head", "teacher"})),
    "overlap": (_drawn, frozenset({"masks"})),
    "precision": (_drawn, frozenset({"boxes"})),
}
"""What can be measured, and what it needs."""
_NEEDS = {
    "labels": "labelled data",
    "head": "a model with classes",
    "teacher": "--teacher",
    "masks": "masks, and a model that was trained on some",
    "boxes": "boxes, and a model that was trained on some",
}


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    labels: str | Path | None = None,
    teacher: Any = None,
    measure: Sequence[str] | str | None = None,
    prompt: Sequence[str] | str | None = None,
    **options: Unpack[Reading],
) -> Result:
    """Measure a model on data: everything that is possible, or what ``measure`` names.

    Where the data have a test part, that is what is measured, and probes learn from the rest; otherwise probes learn from a half of the labels and are measured
    on the other half. ``prompt``: for a model of images and captions, sentences with {} for the name of a class; the names of the data's classes in them are the
    classifier that is measured, on the images alone.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
    given = {"run": run, "data": data, "labels": labels, "teacher": teacher, "measure": measure, "prompt": prompts or None}
    session = Session("evaluate", given, options, Reading, writes=False)
    asked = [measure] if isinstance(measure, str) else list(measure or ())
    for name in asked:
        if name not in MEASURES:
            raise UserError(f"there is no measure '{name}'; {nearest.hint(name, MEASURES, 'there is ' + ', '.join(MEASURES))}")
    student = models.load(Path(run))
    found = session.read(data, labels=labels, like=zero_shot.of_images(student) if prompts else student)
    if prompts:
        student = zero_shot.by_names(student, found.train.classes, prompts)
    knows = session.teacher(teacher, found, classes=student.classes)
    test, train = (found.train, None) if found.test is None else (found.test, found.train.labelled if len(found.train.labelled) else None)
    drawn = student.modality.name if isinstance(student, Drawing) else None
    has = {
        "labels": len(test.labelled) > 0 and drawn is None,
        "head": student.head is not None and drawn is None,
        "teacher": knows is not None,
        "masks": len(test.labelled) > 0 and drawn == "segmentation",
        "boxes": len(test.labelled) > 0 and drawn == "detection",
    }
    for name in asked:
        missing = [_NEEDS[need] for need in MEASURES[name][1] if not has[need]]
        if missing:
            raise UserError(f"the measure {name} needs {' and '.join(missing)}")
    usual = [name for name, (_, needs) in MEASURES.items() if all(has[need] for need in needs) and name != "few-shot"]
    on = Subject(student, test, train, knows, session.settings.seed)
    answer: dict[str, Any] = {"model": str(run), "data": str(data), "samples": len(test), "labelled": len(test.labelled), "measures": {}}
    said = {"data": f"{len(test):,} samples" + ("" if train is not None else "; probes learn from one half of the labels and are measured on the other")}
    for name in asked or usual:
        session.listener.stage(name)
        answer["measures"][name], said[name] = MEASURES[name][0](on)
    session.keep(answer)
    return Result(answer, None, [facts(said)])


def claim(
    name: str | None = None, *, all: bool = False, missing: bool = False, seeds: int = 5, first_seed: int | None = None, **options: Unpack[Common]
) -> Result:
    """Run the claim of a system's paper again, with its controls, over paired seeds; the result is kept, whichever way it falls.

    ``all``: the claims of all systems, several seeds at a time; ``missing``: of these, the ones whose kept result is absent, or older than the claim or
    the system's file. What was stopped goes on.
    """
    refuse_settings("claim", options)
    if (name is None) != (all or missing):
        raise UserError("say which claim: a name, or --all, or --all --missing for those without a current result; there is " + ", ".join(claims.names()))
    asked = [name] if name else [slug for slug in claims.names() if not (missing and claims.current(slug))]
    first = first_seed if first_seed is not None else options.get("seed") or 0
    out = options.get("out")
    if out is not None and (name is None or not Path(out).suffix):
        Path(out).mkdir(parents=True, exist_ok=True)
    hearing = listener(bool(options.get("quiet")))
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    try:
        for slug, answer in claims.run_claims(asked, seeds, first, out, workers=min(cpu_count(), seeds), listener=hearing):
            if not isinstance(answer, Exception):
                found[slug] = answer
            elif name:
                raise answer
            else:
                failed[slug] = f"{type(answer).__name__}: {answer}"
            if not name:
                hearing.say(f"{slug}: {found[slug]['verdict'] if slug in found else failed[slug]}")
    finally:
        hearing.close()
    if name:
        return Result(found[name], None, _told(found[name]))
    rows = [[slug, one["verdict"], f"{one['effect']:+.4g}", f"{one['se']:.2g}", f"{one['minutes']:.1f}"] for slug, one in sorted(found.items())]
    said: list[Any] = [table(["claim", "verdict", "effect", "standard error", "minutes"], rows)] if rows else []
    said += [escape(f"{slug} could not be measured: {why}") for slug, why in failed.items()]
    return Result({"claims": dict(sorted(found.items())), "failed": failed}, None, said or ["Every claim has a current result."])


def _told(found: Mapping[str, Any]) -> list[Any]:
    """What a person sees of one claim."""
    rows = [[arm, f"{fmean(values):.4g}", *(f"{value:.4g}" for value in values)] for arm, values in found["arms"].items()]
    made = table(["arm", "mean", *(f"seed {found['first_seed'] + i}" for i in range(found["seeds"]))], rows)
    said = {
        "claim": found["says"],
        "verdict": found["verdict"],
        "effect": f"{found['effect']:.4g}, standard error {found['se']:.4g} ({found['treatment']} over {found['control']})",
    }
    checks = [f"{'holds' if holds else 'FAILS'}: {escape(check)}" for check, holds in found["checks"].items()]
    checks += [f"observed, not judged: {escape(sentence)}: {'yes' if seen else 'no'}" for sentence, seen in found["observed"].items()]
    return [made, facts(said), *checks]
