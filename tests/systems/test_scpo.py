"""ScPO: votes choose winner and loser, divided problems are left out, and margins weigh."""

from __future__ import annotations

from collections import Counter
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
from understudy.systems.language import Answers
from understudy.teachers.writers import PolicyWriter

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
    kind = systems.get("scpo")
    return kind(kind.Settings(**settings), Task(pool, writing.start(), RunSettings().changed({"device": "cpu", "train.steps": 4}), Run(folder)))


def decided(system: Any, *answers: str, round: int = 1) -> Any:
    return system.decide(Answers(system.pool(), writing.lines(*answers)), round)


def agreement(student: Any) -> float:
    """Share of six answers to an unseen prompt that are the most frequent one."""
    prompts = [exchange.prompt for exchange in exchanges_of(writing.task()[2])[:100] for _ in range(6)]
    said = PolicyWriter(student)(prompts, torch.arange(600))
    return sum(Counter(said[i : i + 6]).most_common()[0][1] for i in range(0, 600, 6)) / 600


def test_it_agrees_with_itself_on_prompts_it_has_not_seen() -> None:
    """Nobody says what is right: what it learns is to mean what it says most often, whether that is right or not."""
    _, pool, _ = writing.task()
    own = {"samples": 6, "temperature": 1.0, "top_p": 1.0, "beta": 2.0, "likelihood": 10.0}
    student = learn("scpo", writing.start(), pool, seed=7, steps=80, settings=own, train__batch=32, optim__lr=2e-4).student
    before, after = agreement(writing.start()), agreement(student)
    assert after > before + 0.05, f"{after:.3f} of the answers agree, and {before:.3f} did"


def test_the_most_frequent_answer_wins_and_the_rarest_loses(tmp_path: Path) -> None:
    system = made(tmp_path)
    (lesson,) = decided(system, "31", "13", "13", "13", "33", "13", "31", "13")
    assert (lesson.chosen.answer, lesson.rejected.answer, lesson.weight) == ("13", "33", 0.5)
    assert lesson.chosen.number == 1 and lesson.rejected.number == 4
    (lesson,) = decided(made(tmp_path, weighted=False), "31", "13", "13", "13")
    assert lesson.weight == 1.0


def test_divided_and_unanimous_problems_teach_nothing(tmp_path: Path) -> None:
    system = made(tmp_path)
    assert decided(system, "13", "13", "13", "13") == [], "nothing to prefer it to"
    assert decided(system, "1", "2", "3", "4") == [] and decided(system, "13", "31", "13", "31") == [], "a tie has no loser"
    three_of_five = ("13", "31", "13", "13", "33")
    assert len(decided(system, *three_of_five)) == 1 and decided(system, *three_of_five, round=2) == [], "later rounds ask for more votes"


def test_numbers_vote_where_the_working_differs(tmp_path: Path) -> None:
    system = made(tmp_path, votes="number")
    (lesson,) = decided(system, "2+3=5", "3+2=5", "2+3=6", "so it is 5.")
    assert (lesson.chosen.answer, lesson.rejected.answer) == ("2+3=5", "2+3=6")


def test_its_learner_gets_its_settings(tmp_path: Path) -> None:
    assert made(tmp_path, beta=0.2, likelihood=0.0).lessons_settings() == pytest.approx({"beta": 0.2, "likelihood": 0.0})
