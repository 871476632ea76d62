"""B-STaR: the configuration is measured before every round, once, and takes what balances best."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from understudy import systems
from understudy.claims import learn, solved
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


def made(folder: Path, **settings: Any) -> Any:
    _, pool, _ = writing.task()
    kind = systems.get("b-star")
    own = {"rounds": 2, "samples": 4, "temperatures": (0.5, 1.0), "thresholds": (-0.5, 0.5), "trial": 20, "enough": 1, **settings}
    task = Task(pool, writing.start(), RunSettings().changed({"device": "cpu", "train.steps": 4, "train.batch": 32}), Run(folder), reward=writing.CHECK)
    return kind(kind.Settings(**own), task)


def test_it_learns() -> None:
    known, pool, test = writing.task()
    common = {"seed": 7, "steps": 120, "train__batch": 32, "optim__lr": 4e-3}
    longer = solved(learn("sft", writing.start(), known, **common).student, test, writing.CHECK)
    own = {"rounds": 2, "samples": 4, "temperatures": (0.5, 1.0), "trial": 30, "enough": 1}
    treated = solved(learn("b-star", writing.start(), pool, reward=writing.CHECK, settings=own, **common).student, test, writing.CHECK)
    assert treated > longer, f"{treated:.3f} is not above the {longer:.3f} of more training"


def test_the_score_wants_many_right_answers_and_few_wrong_ones(tmp_path: Path) -> None:
    system = made(tmp_path, enough=2)
    answers = [writing.lines("13", "31", "13", "013", scores=(1.0, 0.0, 1.0, 1.0)), writing.lines("3", "1", scores=(0.0, 0.0))]
    assert system.balance(answers, 0.5) == pytest.approx((1.0 * 2 / 2 + 0) / 2), "two different right ones, nothing wrong; and nothing selected"
    assert system.balance(answers, -0.5) == pytest.approx((1.0 * 2 / 3 + 0) / 2), "without a threshold wrong ones are among them"
    assert made(tmp_path, enough=4).balance(answers, 0.5) == pytest.approx(0.25), "two of four that would be enough"


def test_the_best_configuration_is_used_and_measured_once(tmp_path: Path) -> None:
    system = made(tmp_path, temperatures=(0.5, 20.0))
    teacher = system.first()
    chosen = system.configuration(teacher, 1)
    assert (chosen["temperature"], chosen["threshold"]) == (0.5, 0.5), "at 20 hardly anything is right"
    assert len(chosen["scores"]) == 4 and max(score for *_, score in chosen["scores"]) == dict_of(chosen)[0.5, 0.5]
    assert system.sampling(teacher, 1).temperature == 0.5
    system.written = None  # a second measurement would fail
    assert system.configuration(teacher, 1) == chosen
    again = made(tmp_path)
    again.written = None
    assert again.configuration(teacher, 1) == chosen, "a resumed run reads it"


def dict_of(chosen: Any) -> dict[tuple[float, float], float]:
    return {(temperature, threshold): score for temperature, threshold, score in chosen["scores"]}


def test_trials_are_drawn_anew_each_round_and_as_many_as_asked(tmp_path: Path) -> None:
    asked: list[set[str]] = []
    for round in (1, 2):
        system = made(tmp_path / str(round), trial=20)
        written = system.written
        system.written = lambda writer, some, r, purpose="", written=written: asked.append({id for id, _, _ in some}) or written(writer, some, r, purpose)
        system.configuration(system.first(), round)
    assert [len(ids) for ids in asked] == [20] * 4 and asked[0] == asked[1] != asked[2]


def test_only_what_is_above_the_threshold_is_learned(tmp_path: Path) -> None:
    system = made(tmp_path)
    written = writing.lines("13", "31", "13", scores=(1.0, 0.0, 1.0))
    for threshold, wanted in ((0.5, ["13"]), (-0.5, ["13", "31"])):
        system.task.run.write("balance-1.json", {"temperature": 1.0, "threshold": threshold})
        assert [lesson.chosen.answer for lesson in system.decide(Answers(system.pool(), written), 1)] == wanted
