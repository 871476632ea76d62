"""Doubly robust: where the teacher is right the correction is nothing, and where it is wrong it is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.samples import Batch, View
from understudy.data.split import hold_out
from understudy.teachers.base import Signals, Teacher


class Told(Teacher):
    """Says the true label, or the one after it."""

    offers = frozenset({"probabilities"})
    fingerprint = "told"

    def __init__(self, truth: torch.Tensor, shift: int):
        super().__init__()
        self.truth, self.shift = truth, shift

    def answer(self, batch: Batch, view: View) -> Signals:
        return Signals(probabilities=torch.nn.functional.one_hot((self.truth[batch.samples.positions[batch.index]] + self.shift) % 10, 10).float())


def test_a_teacher_that_is_always_wrong_does_not_win(tmp_path: Path) -> None:
    everything, test = hold_out(known.digits(), 0.4, 0)
    few = known.few_labels(everything, 20, 0)
    start = models.build("tiny-resnet", few.modality, few.classes, 0, widths=(8, 16, 32))
    teacher = Told(known.digits().labels, 1)
    common: dict[str, Any] = {"seed": 0, "steps": 100, "train__batch": 64, "optim__lr": 0.01}

    def worth(correction: float) -> float:
        return accuracy(learn("dr-self-training", start, few, teacher=teacher, settings={"correction": correction, "rise": 0.3}, **common).student, test)

    assert worth(0.0) < 0.1  # it has learned that every digit is the next one
    assert worth(1.0) > 0.4


def started(folder: Path, shift: int, step: int = 10, **settings: Any) -> Any:
    data = known.few_labels(known.digits(), 5, 0)
    objective = made("dr-self-training", data, folder, "tiny-resnet", settings, Told(known.digits().labels, shift))
    objective.steps, objective.step = 10, step
    labelled = data.labelled
    return objective, objective.losses(data.batch(torch.arange(16)), labelled.batch(torch.arange(16)))


def test_where_the_teacher_is_right_the_correction_is_nothing(tmp_path: Path) -> None:
    _, losses = started(tmp_path / "right", 0)
    torch.testing.assert_close(losses["undone"], -losses["labels"], rtol=0, atol=0)
    _, losses = started(tmp_path / "wrong", 1)
    assert not torch.allclose(losses["undone"], -losses["labels"])


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (2, 0.4), (5, 1.0), (10, 1.0)])
def test_the_correction_rises(step: int, share: float, tmp_path: Path) -> None:
    _, full = started(tmp_path / "full", 1, 10)
    _, losses = started(tmp_path / "part", 1, step, rise=0.5)
    torch.testing.assert_close(losses["labels"], share * full["labels"])
    torch.testing.assert_close(losses["teacher"], full["teacher"])
