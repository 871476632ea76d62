"""SPIN: given answers against own ones of the round before, with two rounds remembered, and a reference that stands still."""

from __future__ import annotations

import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy import systems
from understudy.claims import learn
from understudy.data.problems import exchanges_of
from understudy.engine.run import Run
from understudy.settings import RunSettings
from understudy.systems.base import Task

_spec = spec_from_file_location("writing", Path(__file__).with_name("writing.py"))
assert _spec and _spec.loader
writing = module_from_spec(_spec)
_spec.loader.exec_module(writing)
_spec = spec_from_file_location("training", Path(__file__).with_name("training.py"))
assert _spec and _spec.loader
training = module_from_spec(_spec)
_spec.loader.exec_module(training)


def made(folder: Path, **settings: Any) -> Any:
    known, _, _ = writing.task()
    kind = systems.get("spin")
    own = {"rounds": 3, "samples": 2, **settings}
    return kind(kind.Settings(**own), Task(known, writing.start(), RunSettings().changed({"device": "cpu", "train.steps": 6}), Run(folder)))


def test_given_answers_become_likelier_than_its_own_were() -> None:
    """What the loss is about, on prompts that it has not seen: the given answer gains on the answers that the start wrote."""
    known, _, test = writing.task()
    after = learn("spin", writing.start(), known, seed=7, steps=90, settings={"samples": 2}, train__batch=32, optim__lr=1e-3).student
    inputs = test.batch(torch.arange(100)).view("plain").inputs
    with torch.no_grad():
        gained = after.log_probability(inputs) - writing.start().log_probability(inputs)  # type: ignore[operator]
    prompts = test.batch(torch.arange(100)).view("prompt")
    own = writing.start().continued(prompts.inputs, writing.start().write(prompts.inputs, prompts.keys))
    said = writing.start().modality.decode(own["tokens"][:, prompts.inputs["tokens"].shape[1] :])
    wrong = torch.tensor([not writing.CHECK.right(e, s) for e, s in zip(exchanges_of(test)[:100], said, strict=True)])
    with torch.no_grad():
        lost = after.log_probability(own) - writing.start().log_probability(own)  # type: ignore[operator]
    assert 5 < int(wrong.sum()) < 95
    margin = float((gained - lost)[wrong].mean())
    assert margin > 0.5, f"given answers have gained {margin:.2f} nats on its own wrong ones"


def test_rounds_after_the_first_learn_from_the_last_two(tmp_path: Path) -> None:
    system = made(tmp_path)
    seen: list[set[int]] = []
    select = system.select

    def spied(proposals: Any, round: int) -> Any:
        selected = select(proposals, round)
        seen.append({int(name.split("over round-")[1].split("/")[0]) for name in selected.ids})
        assert all(exchange.answer != exchange.rejected for exchange in exchanges_of(selected))
        return selected

    system.select = spied
    system.run()
    assert seen == [{1}, {1, 2}, {2, 3}]
    assert all(line.decision in ("", "rejected") for line in writing.kept(tmp_path, 3))


def test_it_plays_for_given_answers_only(tmp_path: Path) -> None:
    known, pool, _ = writing.task()
    half = made(tmp_path)
    assert half.pool().ids == known.ids
    object.__setattr__(half.task, "train", pool)
    assert len(half.pool()) == 0


def test_the_reference_is_the_start_of_the_round_and_stands_still(tmp_path: Path) -> None:
    known, _, _ = writing.task()
    system = made(tmp_path / "spin")
    pairs = system.select(system.propose(system.first(), 1), 1)
    dpo = training.made("dpo", pairs, tmp_path / "dpo", writing.start(), {"beta": 0.1})
    batch = pairs.batch(torch.arange(8))
    torch.testing.assert_close(dpo.losses(labelled=batch)["preference"], torch.full((8,), math.log(2)))
    dpo.losses(labelled=batch)["preference"].sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in dpo.reference[0].parameters())
    assert not any("reference" in name for name in dpo.state_dict()), "the task has it already"
    with torch.no_grad():
        for parameter in dpo.student.parameters():
            parameter.add_(0.01)
    assert not torch.allclose(dpo.losses(labelled=batch)["preference"], torch.full((8,), math.log(2)))
    assert float(system.settings.beta) == pytest.approx(0.1)
