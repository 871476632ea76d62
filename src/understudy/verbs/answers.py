"""The end and the beginning of verbs whose student writes: prompts, answers, somebody who checks them."""

from __future__ import annotations

import time
from typing import Any

import torch

from understudy import collective, evaluate, models, systems
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.engine import distribution
from understudy.engine.run import Run
from understudy.errors import UserError
from understudy.models import Policy, Student
from understudy.models.architecture import NAMES
from understudy.plans.fit import SplitSettings
from understudy.systems.base import Staged, Task
from understudy.teachers.rewards import CheckFile, Exact, Reward
from understudy.verbs.exporting import native
from understudy.verbs.result import Trained, figure
from understudy.verbs.session import Reading, Session, settings_of

MOST_TESTED = 500
"""Prompts held out where no test data are given."""


def writes(slug: str) -> bool:
    """Whether a system is about models that write."""
    return "generation" in systems.get(slug).card.modalities


def train(verb: str, slug: str, given: dict[str, Any], options: Any) -> Trained:
    """Run a system on prompts, and say how many answers are right before and after it.

    ``given``: the verb's arguments: data, student, test, budget, and verifier (a Python file with a function ``verify(prompt, answer, reference)``) or teacher. Without a
    verifier an answer is right where it is the known one. Of a model that was never trained, a quarter of the steps first learns the known answers.
    """
    kind = systems.get(slug)
    options = {**options, "modality": options.get("modality") or "generation"}
    fresh = given["student"] in ("auto", *NAMES) and issubclass(kind, Staged)
    defaults = {**kind.defaults, **({f"{slug}.warm_up": 0.25} if fresh else {})}
    session = Session(verb, given, options, Reading, settings={**settings_of(slug), "fit": SplitSettings}, defaults=defaults)
    reward = CheckFile(given["verifier"]) if given.get("verifier") else Exact()
    found, start = session.read_for(given["student"], given["data"], test=given.get("test"))
    if not isinstance(start, Policy):
        raise UserError(f"{slug} needs a model that writes; choose small-lm, hf:NAME of a causal language model, or run:FOLDER of one")
    if isinstance(reward, Exact) and not len(found.train.labelled):
        raise UserError("no answer is known, so none can be told from a wrong one; give --verifier FILE with a function verify, or a column of answers")
    train, test, origin = found.train, found.test, "--test, looked at once"
    if test is None:
        # With a verifier every prompt can be tested on, without one those whose answer is known.
        checked = train if given.get("verifier") else train.labelled
        held = hold_out(checked.relabelled(torch.full_like(checked.labels, -1)), min(0.2, MOST_TESTED / len(checked)), session.key("test"))[1]
        aside = torch.isin(train.keys, held.keys)
        train, test = train.take(~aside), train.take(aside)
        origin = f"{len(test):,} prompts, held out"
    knows = session.teacher(given["teacher"], found) if given.get("teacher") else None
    allowed = session.time_for(20.0)
    with session.writing(training=allowed.get("train.budget")) as run:
        task = Task(train, start, session.settings.changed(allowed), run, teacher=knows, chosen=session.resolved.chosen, reward=reward)
        run.listener.stage(slug, kind.card.title)
        began = time.monotonic()
        outcome = kind(session.resolved.of[slug], task).run()
        stages = [{"name": slug, "val": None, "kept": True, "seconds": round(time.monotonic() - began, 2)}]
        return _concluded(session, run, slug, start, outcome.student, train, test, origin, reward, stages)


def _concluded(
    session: Session, run: Run, slug: str, start: Student, student: Student, train: Samples, test: Samples, origin: str, reward: Reward, stages: list[dict[str, Any]]
) -> Trained:  # fmt: skip
    """Save the model, measure before and after, write ``result.json``."""
    session.listener.stage("results", str(run.folder))
    device = distribution.start(session.settings.device)
    before, after = (evaluate.solved(model.to(device), test, reward) for model in (start, student))
    student = student.cpu().eval()
    if collective.rank() == 0:
        models.save(student, run.folder / "model")
    notes = []
    if isinstance(reward, CheckFile) and reward.failures:
        worst, count = max(reward.failures.items(), key=lambda pair: pair[1])
        notes.append(f"The verifier failed on {sum(reward.failures.values()):,} answers, which count as wrong; most often ({count:,}): {worst}.")
    if (run.folder / "answers").is_dir():
        notes.append(f"Every answer written, its score and what was decided: {run.folder / 'answers'}.")
    answer: dict[str, Any] = {
        "task": "answers to prompts",
        "control": figure(before),
        "result": figure(after),
        "gain": None,
        "control_meaning": "the model that training began with",
        "stages": stages,
        "student": student.spec["name"],
        "seconds": round(time.monotonic() - session.began, 2),
        "seed": session.settings.seed,
        "quarantined": len(session.quarantine.rows),
        "verb": session.verb,
        "system": slug,
        "test_origin": origin,
        "parameters": sum(p.numel() for p in student.parameters()),
        "model": str(run.folder / "model"),
        "export": [str(run.folder / "model" / "hf")] if native(student) else [],
        "notes": notes,
    }
    run.write("result.json", answer)
    session.listener.close()
    return Trained(answer, run.folder)
