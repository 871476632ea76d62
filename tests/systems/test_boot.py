"""BOOT: one step of the student is nearer to the teacher's many than the teacher's one, and no image is looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.systems.training import made
from understudy import keyed, maths, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.samples import InMemory
from understudy.errors import UserError
from understudy.models import Student, painting
from understudy.teachers.kinds import Frozen

DATA = known.digits()
KEYS = torch.as_tensor(keyed.fold(1, torch.arange(200)))


@pytest.fixture(scope="module")
def flow() -> Student:
    start = models.build("tiny-dit", DATA.modality, (), 0, width=48, depth=2)
    return learn("flow-matching", start, DATA, seed=100, steps=120, optim__lr=5e-3).student


def test_one_step_after_it_is_better_than_one_step_before(flow: Student) -> None:
    one = learn("boot", flow, DATA, seed=100, steps=120, teacher=Frozen(flow.clone()), settings={"delta": 0.2}, optim__lr=2e-3).student
    real = DATA.encoded.raw(torch.arange(600))["image"].flatten(1) / 255

    def distance(drawn: torch.Tensor) -> float:
        return float(maths.frechet(drawn.flatten(1), real))

    assert one.spec["jumps"] and distance(painting.paint(one, KEYS)) < 0.95 * distance(painting.paint(flow, KEYS, 1))
    assert torch.equal(painting.paint(one, KEYS[:4], 1), painting.paint(one, KEYS[:4], 50))


def test_no_image_is_looked_at(flow: Student, tmp_path: Path) -> None:
    few = DATA.take(torch.arange(16))
    black = replace(few, encoded=InMemory({"image": torch.zeros(len(DATA), 1, 8, 8, dtype=torch.uint8)}))
    seen, unseen = (
        made("boot", samples, tmp_path / name, flow, teacher=Frozen(flow.clone())).losses(samples.batch(torch.arange(8), 5))
        for name, samples in (("a", few), ("b", black))
    )
    assert all(torch.equal(seen[name], unseen[name]) for name in seen)


def test_it_starts_with_the_teacher_s_weights_and_right_at_the_beginning_of_the_path(flow: Student, tmp_path: Path) -> None:
    fresh = models.build("tiny-dit", DATA.modality, (), 9, width=48, depth=2)
    system = made("boot", DATA, tmp_path, fresh, teacher=Frozen(flow.clone()))
    terms = system.losses(DATA.batch(torch.arange(8)))
    assert float(terms["boundary"].detach().max()) < 1e-10
    terms["bootstrap"].sum().backward()
    assert all(p.grad is None for p in system.teacher.model.parameters())


@pytest.mark.parametrize(("student", "teacher", "says"), [
    ("tiny-resnet", "tiny-dit", "boot needs a model that makes images"),
    ("tiny-dit", "tiny-resnet", "boot's teacher needs a model that makes images"),
])  # fmt: skip
def test_both_must_make_images(student: str, teacher: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        made("boot", DATA, tmp_path, student, teacher=Frozen(models.build(teacher, DATA.modality, (), 0)))
