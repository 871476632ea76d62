"""Self-distillation under label noise: a signed mix, a head alone, and what it takes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import keyed, models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.teachers.kinds import Frozen


def test_a_student_of_a_noisy_teacher_beats_the_labels_again() -> None:
    """More than half of the labels are wrong: the teacher alone is a better target than the labels that it learned from."""
    everything, test = hold_out(known.digits(), 0.4, 100)
    train = everything.take(keyed.permutation(keyed.fold(100, "few"), len(everything))[:500])
    keys = keyed.fold(keyed.fold(100, "noise"), train.keys)
    train = train.relabelled(torch.where(keyed.bernoulli(keys, 0.6), keyed.integers(keyed.fold(keys, "class"), 10), train.labels))
    start = models.build("tiny-resnet", train.modality, train.classes, 100, widths=(8, 16, 32))
    common: dict[str, Any] = {"seed": 100, "steps": 100, "optim__lr": 0.01, "train__batch": 64}

    def student(teacher: Student, xi: float) -> Student:
        return learn("sd-noisy-theory", start, train, teacher=Frozen(teacher.clone()), settings={"xi": xi, "trained": "all"}, **common).student

    teacher = student(start, 0.0)
    assert accuracy(student(teacher, 1.0), test) > accuracy(student(teacher, 0.0), test) + 0.01


@pytest.mark.parametrize("xi", [0.0, 0.5, 1.0, 1.3])
def test_the_loss_is_the_signed_sum_of_two(xi: float, tmp_path: Path) -> None:
    data = known.digits()
    teacher = models.build("tiny-resnet", data.modality, data.classes, 5)
    with torch.no_grad():
        teacher.head.weight.mul_(30)  # type: ignore[union-attr]
    objective = made("sd-noisy-theory", data, tmp_path, "tiny-resnet", {"xi": xi}, Frozen(teacher))
    batch = data.batch(torch.arange(16))
    log_p, q = objective.student(batch.view("plain").inputs).log_softmax(-1), teacher(batch.view("plain").inputs).softmax(-1)
    want = -xi * (q * log_p).sum(-1) - (1 - xi) * log_p.gather(1, batch.labels[:, None]).squeeze(1)
    torch.testing.assert_close(objective.losses(batch)["mixed"], want)


def test_the_backbone_stays_as_it_was_with_its_statistics(tmp_path: Path) -> None:
    data = known.digits()
    start = models.build("tiny-resnet", data.modality, data.classes, 0)
    objective = made("sd-noisy-theory", data, tmp_path, start, teacher=Frozen(start.clone()), train__steps=3, train__batch=16)
    student = objective.run().student
    assert all(torch.equal(a, b) for a, b in zip(student.backbone.state_dict().values(), start.backbone.state_dict().values(), strict=True))
    assert not torch.equal(student.head.weight, start.head.weight)
