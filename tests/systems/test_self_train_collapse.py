"""The collapse of a model that learns what it writes: it must happen, and given texts must prevent it."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from understudy import maths, systems
from understudy.claims import learn
from understudy.data.problems import exchanges_of
from understudy.engine.run import Run
from understudy.models import Student
from understudy.settings import RunSettings
from understudy.systems.base import Task
from understudy.systems.llm_self.self_train_collapse import in_turn

_spec = spec_from_file_location("writing", Path(__file__).with_name("writing.py"))
assert _spec and _spec.loader
writing = module_from_spec(_spec)
_spec.loader.exec_module(writing)
_spec = spec_from_file_location("training", Path(__file__).with_name("training.py"))
assert _spec and _spec.loader
training = module_from_spec(_spec)
_spec.loader.exec_module(training)


@torch.no_grad()
def nats(student: Student) -> float:
    inputs = writing.task()[2].batch(torch.arange(writing.TEST)).view("plain").inputs
    return float(maths.masked_mean(-student.token_log_probabilities(inputs), inputs["answer"]).mean())  # type: ignore[operator]


def test_its_own_answers_make_it_worse_and_given_ones_do_not() -> None:
    known, _, _ = writing.task()

    def after(anchor: float) -> float:
        settings = {"rounds": 4, "anchor": anchor}
        return nats(learn("self-train-collapse", writing.start(), known, seed=7, steps=120, settings=settings, train__batch=32, optim__lr=4e-3).student)

    before, own, given = nats(writing.start()), after(0.0), after(1.0)
    assert own > before + 0.05, f"{own:.3f} nats a token are hardly more than {before:.3f}"
    assert given < own - 0.2


def test_everything_written_is_learned_whatever_it_is(tmp_path: Path) -> None:
    known, _, _ = writing.task()
    kind = systems.get("self-train-collapse")

    def selected(anchor: float) -> Any:
        task = Task(known, writing.start(), RunSettings().changed({"device": "cpu"}), Run(tmp_path / str(anchor)), reward=writing.CHECK)
        system: Any = kind(kind.Settings(anchor=anchor), task)
        return system.select(system.propose(system.first(), 1), 1)

    own, half, given = selected(0.0), selected(0.5), selected(1.0)
    assert len(own) == len(half) == len(given) == len(known)
    assert exchanges_of(given) == exchanges_of(known) and exchanges_of(own) != exchanges_of(known)
    assert all(line.decision == "chosen" for line in writing.kept(tmp_path / "0.0", 1)), "right or wrong"
    assert sum(line.decision == "chosen" for line in writing.kept(tmp_path / "0.5", 1)) == len(known) // 2


def test_shares_are_exact_and_change_from_round_to_round() -> None:
    assert sum(in_turn(100, 0.3, 1)) == 30 and sum(in_turn(10, 0.0, 3)) == 0 and all(in_turn(10, 1.0, 3))
    assert in_turn(4, 0.5, 1) != in_turn(4, 0.5, 2)
