"""The end of every verb that trains: save, measure once on test data, export, report, ``result.json``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy import collective, evaluate, maths, models, report
from understudy.data.samples import Samples
from understudy.engine.run import Run, versions
from understudy.errors import MissingExtra, UserError
from understudy.labels import LabelStore
from understudy.models.student import Drawing, Student
from understudy.verbs.exporting import export, native
from understudy.verbs.measured import measure, write_answers
from understudy.verbs.result import Trained, figure, gain_figure, score
from understudy.verbs.session import Session

SHOWN = 700
"""Samples on the map of the embedding; placing so many takes a few seconds."""
GALLERY = 2000
"""Unlabelled samples that the gallery chooses from where no rounds have proposed labels for them."""
_WRITING = 15.0
"""Seconds that export and report take."""


@dataclass
class Ending:
    """What a verb hands over when its training is done."""

    student: Student
    train: Samples
    test: Samples | None = None
    test_origin: str = ""
    control: Student | None = None
    control_meaning: str = ""
    stages: Sequence[Mapping[str, Any]] = ()
    """Lines of ``result.json``."""
    temperature: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """Further figures to show, by name."""
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """Further keys of ``result.json``."""


def reserved(student: Student, samples: Samples, test: Samples | None, looks: int = 2) -> float:
    """Seconds needed after training: ``looks`` passes over the test samples and those of the map, one over the gallery's, export, report."""
    each = evaluate.size_and_speed(student, samples, repeats=2).milliseconds / 1000
    return _WRITING + each * (looks * (SHOWN + (len(test) if test else 0)) + min(len(samples.unlabelled), GALLERY))


def conclude(session: Session, run: Run, ending: Ending) -> Trained:
    """Write everything that a finished run has; ``result.json`` comes last, so that a run with it is finished."""
    student, test, listener = ending.student.cpu().eval(), ending.test, session.listener
    listener.stage("results", str(run.folder))
    if collective.rank() == 0:
        models.save(student, run.folder / "model")
    measured = measure(student, test, None if ending.control is None else ending.control.cpu())
    speed = evaluate.size_and_speed(student, ending.train)
    exported, notes = exports(student, run.folder) if collective.rank() == 0 else ([], [])
    notes = [*ending.notes, *notes]
    extra = dict(ending.extra)
    if isinstance(student, Drawing) and len(ending.train.unlabelled) and collective.rank() == 0:
        write_answers(student, ending.train.unlabelled, run.folder / "predictions")
        extra["predictions"] = str(run.folder / "predictions")
    if measured.result is not None and (half := (measured.result.high - measured.result.low) / 2) > 0.05:
        notes.append(
            f"{measured.result.n:,} test samples ({ending.test_origin}) leave ± {100 * half:.0f} points of doubt: give more labelled data with --test to know better."
        )
    answer: dict[str, Any] = {
        "task": _task(student),
        "control": figure(measured.control, measured.metric),
        "result": figure(measured.result, measured.metric),
        "gain": gain_figure(measured.gain),
        "stages": [dict(stage) for stage in ending.stages],
        "student": student.spec["name"],
        "seconds": round(time.monotonic() - session.began, 2),
        "seed": session.settings.seed,
        "quarantined": len(session.quarantine.rows),
        "verb": session.verb,
        "classes": list(student.classes),
        "test_origin": ending.test_origin,
        "parameters": speed.parameters,
        "milliseconds": speed.milliseconds,
        "model": str(run.folder / "model"),
        "report": str(run.folder / "report.html"),
        "export": exported,
        "figures": ending.figures,
        "notes": notes,
        **extra,
    }
    if collective.rank() == 0:
        report.write(run.folder, record(session, run.folder, ending, answer, measured.control_logits, measured.result_logits))
    # Of a run that was resumed, what earlier processes did is known from its stages.
    answer["seconds"] = round(max(time.monotonic() - session.began, sum(stage["seconds"] for stage in ending.stages)), 2)
    run.write("result.json", answer)
    listener.close()
    return Trained(answer, run.folder)


def _task(student: Student) -> str:
    kind = student.modality.name
    return f"{kind} representation" if student.head is None else kind if isinstance(student, Drawing) else f"{kind} classification"


def exports(student: Student, folder: Path) -> tuple[list[str], list[str]]:
    """Export what can be exported without being asked; returns the paths, and sentences about what could not."""
    own = native(student)
    if own is not None:
        return [str(folder / "model" / {"timm": "timm", "transformers": "hf"}[own])], []
    try:
        return [export(student, folder / "model", "onnx", folder / "export")["path"]], []
    except MissingExtra as missing:
        return [], [f"Nothing was exported: {missing}."]
    except UserError as problem:
        return [], [f"Nothing was exported: {problem}."]


def record(session: Session, folder: Path, ending: Ending, answer: Mapping[str, Any], control: Tensor | None, result: Tensor | None) -> report.ReportRecord:
    """Everything the report shows."""
    student, train, test = ending.student, ending.train, ending.test
    found = session.found
    measured = [("understudy" if ending.control is not None else "model", student)] + ([("control", ending.control)] if ending.control is not None else [])
    speeds = [(name, evaluate.size_and_speed(model, train)) for name, model in measured]
    return report.ReportRecord(
        title=f"{session.verb} {session.arguments.get('data', '')}".strip(),
        task=answer["task"],
        seed=answer["seed"],
        command=session.command,
        seconds=answer["seconds"],
        control=score(answer["control"]),
        result=score(answer["result"]),
        test_origin=ending.test_origin,
        control_meaning=ending.control_meaning,
        notes=list(answer["notes"]),
        found=found.describe() if found else [],
        stages=[report.Stage(s["name"], s["val"], s["kept"], s["seconds"], s.get("why", "")) for s in answer["stages"]],
        classes=list(train.classes),
        truth=None if result is None or test is None else test.labels.numpy(),
        control_probabilities=None if control is None else control.softmax(-1).numpy(),
        result_probabilities=None if result is None else result.softmax(-1).numpy(),
        temperature=ending.temperature,
        embedding=None if isinstance(student, Drawing) else _map(student, train, ending.temperature, answer["seed"]),
        galleries=_drawn(ending, student) if isinstance(student, Drawing) else _galleries(folder, ending, result),
        models=[report.ModelFacts(name, s.parameters, s.bytes, s.milliseconds) for name, s in speeds],
        device=speeds[0][1].device,
        settings=session.resolved.to_json(),
        versions=versions(),
        fingerprints=_fingerprints(train, test),
    )


def _fingerprints(train: Samples, test: Samples | None) -> dict[str, str]:
    return {"training data": train.fingerprint} | ({"test data": test.fingerprint} if test is not None else {})


def _map(student: Student, train: Samples, temperature: float | None, seed: int) -> report.EmbeddingMap:
    """Labelled samples first, then unlabelled ones with the model's own answers."""
    some = torch.cat([(train.labels >= 0).nonzero().squeeze(-1)[: SHOWN // 2], (train.labels < 0).nonzero().squeeze(-1)])[:SHOWN]
    samples = train.take(some)
    points, method = report.place(evaluate.features(student, samples).numpy(), seed)
    labels, confidence = samples.labels.clone(), torch.full((len(samples),), float("nan"))
    if student.head is not None:
        p = maths.softened(evaluate.predict(student, samples), temperature or 1.0)
        guessed = labels < 0
        labels[guessed], confidence[guessed] = p.argmax(-1)[guessed], p.amax(-1)[guessed]
    return report.EmbeddingMap(points, labels.numpy(), None if bool(confidence.isnan().all()) else confidence.numpy().astype(np.float32), method)


def _drawn(ending: Ending, student: Drawing) -> list[report.Gallery]:
    """Images beside what the model draws on them."""
    shown = [("Test images", ending.test), ("Images without labels", ending.train.unlabelled)]
    return [report.drawn(title, samples, student) for title, samples in shown if samples is not None and len(samples) and student.head is not None]


def _galleries(folder: Path, ending: Ending, result: Tensor | None) -> list[report.Gallery]:
    """What was seen, what was trusted, who changed their minds, what went wrong."""
    train, pool = ending.train, ending.train.unlabelled
    galleries = [report.seen_by_both(train.batch(torch.arange(min(len(train), 14)), key=0, step=0))]
    if ending.student.head is not None and len(pool):
        rounds = proposed(folder, pool)
        if not rounds:
            pool = pool.take(torch.arange(min(len(pool), GALLERY)))
            rounds = [evaluate.predict(ending.student, pool).softmax(-1)]
        galleries += report.trusted(pool, rounds[-1])
        if len(rounds) > 1:
            galleries.append(report.changed_minds(pool, rounds[-2], rounds[-1]))
    if result is not None and ending.test is not None:
        galleries.append(report.worst_mistakes(ending.test, result.softmax(-1)))
    return galleries


def proposed(folder: Path, pool: Samples) -> list[Tensor]:
    """The probabilities ``[N, C]`` that the rounds of self-training proposed for ``pool``, in order, those that cover it."""
    stores = sorted((path.parent for path in folder.rglob("labels/round-*/complete")), key=lambda path: int(path.name.rpartition("-")[2]))
    found = []
    for place in stores:
        store = LabelStore.open(place)
        if bool(store.have(pool.keys, 0).all()):
            found.append(store.decode(store.read(pool.keys, 0)))
    return found
