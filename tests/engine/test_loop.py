"""The loop: it learns, is cut and goes on, accumulates, keeps a budget."""

from __future__ import annotations

import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from understudy.engine.loop import Loop
from understudy.errors import UserError

_spec = spec_from_file_location("training", Path(__file__).with_name("training.py"))
assert _spec and _spec.loader
training = module_from_spec(_spec)
_spec.loader.exec_module(training)
weights, losses, same = training.weights, training.losses, training.same


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    training.train(folder)
    return folder


def test_it_learns(whole: Path) -> None:
    found = losses(whole)
    assert found[-1][1] < 0.9 * found[0][1]


def test_a_run_cut_at_any_step_ends_the_same(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = 0
    once = Loop.once

    def cut(self: Loop, step: int) -> Any:
        nonlocal done
        done += 1
        if done % 7 == 0:
            raise ConnectionAbortedError
        return once(self, step)

    monkeypatch.setattr(Loop, "once", cut)
    for _ in range(60):
        try:
            training.train(tmp_path)
            break
        except ConnectionAbortedError:
            continue
    assert done > 45
    assert same(weights(whole), weights(tmp_path))
    assert losses(whole) == losses(tmp_path)


def test_accumulation_changes_no_loss(whole: Path, tmp_path: Path) -> None:
    training.train(tmp_path, **{"train.accumulate": 4, "train.steps": 12})
    training.train(tmp_path / "one", **{"train.steps": 12})
    # The queue keeps the features of the last part only, as this objective has it; so the first step is compared.
    a, b = losses(tmp_path)[0][1], losses(tmp_path / "one")[0][1]
    assert a == pytest.approx(b, rel=1e-5)


def test_a_budget_becomes_steps(tmp_path: Path) -> None:
    start = time.monotonic()
    training.train(tmp_path, **{"train.steps": None, "train.budget": "3s"})
    assert time.monotonic() - start < 30
    assert training.facts(tmp_path)["steps"] >= 10


def test_a_budget_is_kept_when_the_machine_slows_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = Loop.once

    def slower(self: Loop, step: int) -> Any:
        time.sleep(0.02 if self.steps != 1000 else 0.0)  # the rehearsal has 1000
        return once(self, step)

    monkeypatch.setattr(Loop, "once", slower)
    start = time.monotonic()
    training.train(tmp_path, **{"train.steps": None, "train.budget": "4s"})
    assert time.monotonic() - start < 9
    assert 10 <= training.facts(tmp_path)["steps"] == training.facts(tmp_path)["step"] < 250


def test_batches_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be split"):
        training.train(tmp_path, **{"train.accumulate": 3})
