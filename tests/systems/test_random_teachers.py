"""Random teachers: where the student starts, and who moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import evaluate, maths, models
from understudy.data import known
from understudy.data.split import hold_out
from understudy.models import Student

TINY: dict[str, Any] = {"prototypes": 64, "hidden": 32, "bottleneck": 16, "temperature": 0.05}


def plain(data: Any) -> Student:
    """Without batch norm, whose statistics would change features by themselves."""
    return models.build("tiny-resnet", data.modality, (), 0, widths=(8, 16, 32), norm=False)


def test_it_comes_near_its_teacher(tmp_path: Path) -> None:
    """On digits that it has not seen, the student's distribution ends nearer to the teacher's than it began, and not on it."""
    train, test = hold_out(known.digits(), 0.3, 0)
    first = plain(train)
    objective = made("random-teachers", train, tmp_path, first, TINY, train__steps=120, train__batch=64, optim__lr=3e-3)
    batch = test.batch(torch.arange(128))

    def distance() -> float:
        with torch.no_grad():
            return float(objective.losses(batch)["teacher"].mean())

    before = distance()
    taught = objective.run().student
    assert distance() < 0.7 * before
    assert not torch.equal(evaluate.features(taught, test), evaluate.features(first, test))


@pytest.mark.parametrize("distance", [0.3, 1.0])
def test_the_student_starts_between_two_draws(distance: float, tmp_path: Path) -> None:
    data = known.digits()
    objective = made("random-teachers", data, tmp_path, plain(data), {**TINY, "distance": distance})
    fresh = plain(data).reinitialised(objective.task.key("fresh"))
    for mine, theirs, other in zip(objective.student.backbone.parameters(), plain(data).backbone.parameters(), fresh.backbone.parameters(), strict=True):
        torch.testing.assert_close(mine, maths.interpolated(theirs, other, distance))
    assert not torch.equal(objective.head.prototypes.weight, objective.teacher_head.prototypes.weight)


def test_only_the_student_moves(tmp_path: Path) -> None:
    data = known.digits()
    objective = made("random-teachers", data, tmp_path, plain(data), TINY, train__steps=5, train__batch=32)
    teacher = [p.clone() for p in (*objective.teacher.model.parameters(), *objective.teacher_head.parameters())]
    student = [p.clone() for p in objective.student.backbone.parameters()]
    objective.run()
    assert all(torch.equal(a, b) for a, b in zip(teacher, (*objective.teacher.model.parameters(), *objective.teacher_head.parameters()), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(student, objective.student.backbone.parameters(), strict=True))


def test_both_see_the_sample_itself(tmp_path: Path) -> None:
    data = known.digits()
    objective = made("random-teachers", data, tmp_path, plain(data), TINY)
    seen: list[torch.Tensor] = []
    for backbone in (objective.teacher.model.backbone, objective.student.backbone):
        backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]["pixels"]))
    batch = data.batch(torch.arange(8), key=3)
    objective.losses(batch)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], batch.view("plain").inputs["pixels"])
