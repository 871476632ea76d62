"""A language model that can sort a little, for the tests of systems that teach it more."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from understudy import models
from understudy.claims import learn
from understudy.data import problems
from understudy.data.samples import Samples
from understudy.labels.answers import Answer, AnswerStore
from understudy.models import Student
from understudy.teachers.rewards import Checked

CHECK = Checked(problems.of("sorting").right)
KNOWN, POOL, TEST = 150, 250, 200


@functools.cache
def task(size: int = 5) -> tuple[Samples, Samples, Samples]:
    """Problems with answers, others without, and a test set."""
    drawn = problems.draw("sorting", KNOWN + POOL + TEST, size, 7).take(torch.randperm(KNOWN + POOL + TEST, generator=torch.Generator().manual_seed(7)))
    known, pool, test = (drawn.take(part) for part in torch.arange(len(drawn)).split([KNOWN, POOL, TEST]))
    return known, problems.hidden(pool, 0, 7), test


@functools.cache
def start(steps: int = 110) -> Student:
    """A model that has learned the known answers for a while."""
    known, _, _ = task()
    return learn("sft", models.build("tiny-lm", known.modality, (), 7, width=32), known, seed=7, steps=steps, train__batch=32, optim__lr=4e-3).student


def lines(*answers: str, id: str = "sorting/31>", round: int = 1, scores: tuple[float, ...] = ()) -> list[Answer]:
    """Answers to one prompt."""
    return [Answer(round, id, n, "31>", said, scores[n] if scores else None) for n, said in enumerate(answers)]


def kept(folder: Path, round: int) -> list[Any]:
    """What a run wrote about one of its rounds."""
    return AnswerStore(folder / "answers", round).read()
