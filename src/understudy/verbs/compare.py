"""``compare``: several systems on the same data, with the same student, split, time, order and seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Unpack

from matplotlib.figure import Figure
from scipy.stats import t as student_t

from understudy import evaluate, maths, models, systems
from understudy.engine.run import Run
from understudy.errors import UserError
from understudy.models.student import Drawing, Student
from understudy.plans.fit import SplitSettings
from understudy.report.page import duration
from understudy.report.verdict import percent, points
from understudy.settings import RunSettings, Settings, leaves, parse_duration
from understudy.systems.base import Task
from understudy.teachers.base import Teacher
from understudy.verbs.conclude import reserved
from understudy.verbs.fit import Split, split
from understudy.verbs.result import Result, facts, table
from understudy.verbs.session import Reading, Session, settings_of

START = "untrained"
"""The row of the student as it starts."""
Figures = dict[str, float]
"""What one run came to: linear probe, nearest neighbours and, where the system trains a classifier, accuracy; where labels are drawn, mean IoU or average precision. All on test
samples, in [0, 1]."""


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences with its 95 % interval over the seeds (Student's t); no interval from one seed."""

    mean: float
    low: float | None
    high: float | None


def paired(treated: Sequence[float], control: Sequence[float]) -> Difference:
    """``treated`` - ``control``, matched by seed."""
    mean, error = maths.paired_difference(treated, control)
    if len(treated) < 2:
        return Difference(mean, None, None)
    half = float(student_t.ppf(0.975, len(treated) - 1)) * error
    return Difference(mean, mean - half, mean + half)


def compare(
    systems: Sequence[str],
    *,
    data: str | Path,
    labels: str | Path | None = None,
    test: str | Path | None = None,
    student: str = "auto",
    teacher: Any = None,
    budget: str | None = None,
    seeds: int = 3,
    **options: Unpack[Reading],
) -> Result:
    """Run ``systems`` (the first is what the others are compared with) and judge all of them on the same test samples by the same probes.

    ``budget`` is the time for everything; every run gets the same part of it.
    """
    names = list(dict.fromkeys(systems))
    given = {"systems": names, "data": data, "labels": labels, "test": test, "student": student, "teacher": teacher, "budget": budget, "seeds": seeds}
    kinds: dict[str, type[Settings]] = {"fit": SplitSettings}
    for name in names:
        kinds |= settings_of(name)
    session = Session("compare", given, options, Reading, settings=kinds)
    found, start = session.read_for(student, data, labels=labels, test=test, headless=True)
    parts = split(session, found, session.resolved.of["fit"])  # type: ignore[arg-type]
    knows = session.teacher(teacher, found)
    _check(names, found.modality, knows)
    runs = len(names) * seeds
    allowed = session.time_for(runs * reserved(start, parts.train, parts.test, looks=1) / 4)
    with session.writing(training=allowed.get("train.budget")) as into:
        each = {"train.budget": f"{parse_duration(allowed['train.budget']) / runs:.3f}"} if allowed else {}
        figures: dict[str, list[Figures]] = {name: [] for name in [START, *names]}
        for seed in range(session.settings.seed, session.settings.seed + seeds):
            begin = session.build(student, parts.train.modality, (), seed).with_head((), seed)
            figures[START].append(_judged(begin, parts, seed))
            for name in names:
                figures[name].append(_one(session, into.inner(name, f"seed-{seed}"), name, begin, parts, knows, {**each, "seed": seed}))
        answer = _answer(session, names, figures, parts, seeds)
        _picture(answer, into.folder / "compare.svg")
        into.write("result.json", answer)
    return Result(answer, into.folder, _shown(answer))


def _check(names: Sequence[str], modality: str, teacher: Teacher | None) -> None:
    """Refuse before anything runs what would fail later."""
    for name in names:
        card = systems.get(name).card
        if not card.takes(modality):
            raise UserError(f"{name} works on {', '.join(card.modalities)}, and the data are {modality}")
        if "teacher" in card.needs and teacher is None:
            raise UserError(f"{name} needs a teacher; give --teacher")


def _one(session: Session, run: Run, name: str, start: Student, parts: Split, teacher: Teacher | None, common: Mapping[str, Any]) -> Figures:
    """One system with one seed, unless that is done already."""
    done = run.read("figures.json")
    if done is not None:
        return done
    run.listener.stage(f"{name}, seed {common['seed']}")
    kind, known = systems.get(name), leaves(RunSettings)
    chosen = {key: value for key, value in session.resolved.chosen.items() if key in known}
    settings = RunSettings().changed({**kind.defaults, **chosen, **common})
    task = Task(parts.train, start, settings, run, parts.validation, teacher, chosen=session.resolved.chosen)
    outcome = kind(session.resolved.of[name], task).run()
    figures = _judged(outcome.student, parts, settings.seed)
    models.save(outcome.student, run.folder / "model")
    run.write("figures.json", figures)
    return figures


def _judged(student: Student, parts: Split, seed: int) -> Figures:
    if isinstance(student, Drawing):
        return {} if student.head is None else {(counted := evaluate.drawn(student, parts.test)).metric: counted.proportion().value}
    train = parts.train.labelled
    seen = (evaluate.features(student, train), train.labels, evaluate.features(student, parts.test), parts.test.labels)
    figures = {"linear probe": evaluate.linear_probe(*seen, key=seed).value, "nearest neighbours": evaluate.knn(*seen).value}
    if student.head is not None:
        figures["accuracy"] = evaluate.accuracy(evaluate.predict(student, parts.test), parts.test.labels).value
    return figures


def _answer(session: Session, names: Sequence[str], figures: Mapping[str, list[Figures]], parts: Split, seeds: int) -> dict[str, Any]:
    shared = [metric for metric in figures[names[0]][0] if all(metric in one for name in names for one in figures[name])]
    metric = "accuracy" if "accuracy" in shared else shared[0]
    values = {name: {m: [one[m] for one in ones] for m in ones[0]} for name, ones in figures.items() if ones[0]}
    reference = values[names[0]][metric]
    gains = {name: asdict(paired(found[metric], reference)) for name, found in values.items() if metric in found and name != names[0]}
    return {
        "metric": metric,
        "reference": names[0],
        "seeds": seeds,
        "first_seed": session.settings.seed,
        "figures": values,
        "gains": gains,
        "test_samples": len(parts.test),
        "test_origin": parts.test_origin,
        "seconds": round(time.monotonic() - session.began, 2),
        "picture": str(session.folder / "compare.svg"),
    }


def _shown(answer: Mapping[str, Any]) -> list[Any]:
    metrics = sorted({metric for found in answer["figures"].values() for metric in found})
    rows = []
    for name, found in answer["figures"].items():
        gain = answer["gains"].get(name)
        told = "" if gain is None else points(gain["mean"]) + ("" if gain["low"] is None else f" ({points(gain['low'])} to {points(gain['high'])})")
        rows.append([name, *(_spread(found.get(m)) for m in metrics), told])
    made = table(["system", *metrics, f"{answer['metric']} against {answer['reference']}, 95 %"], rows)
    said = {
        "seeds": answer["seeds"],
        "test": f"{answer['test_samples']:,} samples ({answer['test_origin']})",
        "time": duration(answer["seconds"]),
        "picture": answer["picture"],
    }
    note = [] if answer["seeds"] > 1 else ["One seed says nothing about the next: take --seeds 3 or more."]
    return [made, facts(said), *note]


def _spread(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    return percent(fmean(values)) + (f" ± {100 * stdev(values):.1f}" if len(values) > 1 else "")


def _picture(answer: Mapping[str, Any], path: Path) -> None:
    """Every seed a dot, every system a line with its mean."""
    metric = answer["metric"]
    rows = [(name, found[metric]) for name, found in answer["figures"].items() if metric in found]
    figure = Figure(figsize=(7, 0.8 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, values) in enumerate(reversed(rows)):
        colour = "C0" if name == answer["reference"] else "0.5" if name == START else "C1"
        axes.plot([100 * v for v in values], [place] * len(values), "o", color=colour, alpha=0.6, markeredgewidth=0)
        axes.plot([100 * fmean(values)], [place], "|", color=colour, markersize=18, markeredgewidth=2.5)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axes.set_xlabel(f"{metric}, % of {answer['test_samples']:,} test samples; a dot per seed, a bar at the mean")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
