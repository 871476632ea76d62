"""ReST-EM: what a checker finds right is learned, from the first weights, and every line of it can be traced."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch

from understudy import systems
from understudy.claims import learn, solved
from understudy.data.problems import exchanges_of
from understudy.engine.run import Run
from understudy.settings import RunSettings
from understudy.systems.base import Task
from understudy.systems.language import Answers

_spec = spec_from_file_location("writing", Path(__file__).with_name("writing.py"))
assert _spec and _spec.loader
writing = module_from_spec(_spec)
_spec.loader.exec_module(writing)
_spec = spec_from_file_location("training", Path(__file__).with_name("training.py"))
assert _spec and _spec.loader
training = module_from_spec(_spec)
_spec.loader.exec_module(training)


def made(folder: Path, steps: int = 4, **settings: Any) -> Any:
    _, pool, _ = writing.task()
    common = RunSettings().changed({"device": "cpu", "train.steps": steps, "train.batch": 32})
    kind = systems.get("rest-em")
    own = {"rounds": 2, "samples": 4, "most": 2, **settings}
    return kind(kind.Settings(**own), Task(pool, writing.start(), common, Run(folder), reward=writing.CHECK))


def test_it_beats_more_of_the_same_answers() -> None:
    known, pool, test = writing.task()
    common = {"seed": 7, "steps": 150, "train__batch": 32, "optim__lr": 4e-3}
    longer = solved(learn("sft", writing.start(), known, **common).student, test, writing.CHECK)
    own = {"rounds": 2, "samples": 4, "most": 2}
    treated = solved(learn("rest-em", writing.start(), pool, reward=writing.CHECK, settings=own, **common).student, test, writing.CHECK)
    assert treated > longer + 0.04, f"{treated:.3f} is not above the {longer:.3f} of more training"


def test_only_right_answers_are_learned_and_at_most_so_many_of_each(tmp_path: Path) -> None:
    system = made(tmp_path)
    written = writing.lines("13", "31", "13", "013", "13 ", scores=(1.0, 0.0, 1.0, 1.0, 1.0))
    lessons = system.decide(Answers(system.pool(), written), 1)
    assert [lesson.chosen.answer for lesson in lessons] == ["13", "013"], "equal answers count once, and two are enough"
    every = made(tmp_path / "every", distinct=False, most=9).decide(Answers(system.pool(), written), 1)
    assert [lesson.chosen.number for lesson in every] == [0, 2, 3, 4]


def test_every_training_sample_can_be_traced(tmp_path: Path) -> None:
    system = made(tmp_path)
    proposals = system.propose(system.first(), 1)
    selected = system.select(proposals, 1)
    there = {f"{line.id}/round-1/{line.number}": line for line in writing.kept(tmp_path, 1)}
    assert len(there) == 4 * len(system.pool()) and 0 < len(selected) < len(there)
    for name, exchange in zip(selected.ids, exchanges_of(selected), strict=True):
        line = there[name]
        assert (line.prompt, line.answer, line.score, line.decision) == (exchange.prompt, exchange.answer, 1.0, "chosen")
    assert sum(line.decision == "chosen" for line in there.values()) == len(selected)


def test_a_stop_while_writing_loses_nothing(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole")
    wanted = whole.propose(whole.first(), 1).lines
    cut = made(tmp_path / "cut")
    cut.propose(cut.first(), 1)
    path = tmp_path / "cut" / "answers" / "round-1.jsonl"
    path.write_bytes(path.read_bytes()[:5000])  # in the middle of a line
    kept = len(writing.kept(tmp_path / "cut", 1))
    asked: list[int] = []
    again = made(tmp_path / "cut")
    written = again.written
    again.written = lambda writer, some, round: asked.append(len(some)) or written(writer, some, round)
    assert list(again.propose(again.first(), 1).lines) == list(wanted)
    assert asked == [len(wanted) - kept], "what was on disk is not written again"


def test_each_round_begins_at_the_first_weights(tmp_path: Path) -> None:
    begun: dict[bool, list[bool]] = {True: [], False: []}
    for restart in begun:
        system = made(tmp_path / str(restart), restart=restart)
        stage, first = system.stage, system.task.student.state_dict()

        def spied(name: str, slug: str, student: Any, stage: Any = stage, first: Any = first, restart: bool = restart, **given: Any) -> Any:
            begun[restart].append(all(torch.equal(first[k], v) for k, v in student.state_dict().items()))
            return stage(name, slug, student, **given)

        system.stage = spied
        system.run()
    assert begun == {True: [True, True], False: [True, False]}
