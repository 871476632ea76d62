"""ScaleKD: the gradient passes the teacher's last blocks and stays in none of them, and what the projectors learn reaches the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.samples import Batch, Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models import Student
from understudy.systems.kd_feature.scalekd import insides
from understudy.teachers.kinds import Frozen


def trained(train: Samples, steps: int) -> Student:
    start = models.build("tiny-vit", train.modality, train.classes, 1, width=32)
    return learn("supervised", start, train, seed=0, steps=steps, train__batch=64, optim__lr=3e-3, settings={"view": "plain"}).student.clone()


def built(folder: Path, data: Samples, student: str = "tiny-resnet", settings: dict[str, Any] | None = None) -> Any:
    return made("scalekd", data, folder, student, settings, Frozen(trained(data, 1)))


def test_a_convolutional_student_learns_from_a_transformer_without_labels() -> None:
    train, test = hold_out(known.digits(), 0.3, 100)
    teacher, silent = trained(train, 200), known.few_labels(train, 0, 0)
    start = models.build("tiny-resnet", train.modality, train.classes, 0, widths=(8, 16, 32))

    def taught(**settings: Any) -> float:
        given = {"view": "plain", "weight": 1.0, "spatial": 0.4, "frequency": 0.3, **settings}
        return accuracy(learn("scalekd", start, silent, seed=0, steps=60, teacher=Frozen(teacher.clone()), settings=given, optim__lr=2e-2).student, test)

    assert taught() > 0.65
    # The features alone: the head has nothing to learn from and must not know a class.
    assert taught(weight=0.0) < 0.3


def test_the_gradient_passes_the_teachers_blocks_and_stays_in_none(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(64))
    system = built(tmp_path, data, settings={"weight": 0.0})
    terms = system.losses(data.batch(torch.arange(8)))
    (terms["spatial"] + terms["frequency"]).sum().backward()
    blocks, norm = insides(system.teacher.model)
    assert all(p.grad is None for part in (*blocks, norm) for p in part.parameters())
    for name in ("spatial 1", "frequency 1"):  # nothing lies behind the first projectors but the teacher's blocks and the second ones' questions
        assert system.projectors[name].out.weight.grad.abs().sum() > 0 and system.projectors[name].questions.grad.abs().sum() > 0
    assert system.student.backbone.stem[0].weight.grad.abs().sum() > 0 and system.student.head.weight.grad is None
    names = {name for name, _ in system.named_parameters()}
    assert not any("teacher" in name for name in names) and system.projectors["spatial 2"].questions is None
    system.teacher.assert_unmoved()


def test_a_projection_that_is_the_teachers_own_tokens_comes_out_as_its_answer(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(64))
    system = built(tmp_path, data, settings={"later": 2})
    batch = data.batch(torch.arange(8))
    teacher = Frozen(system.teacher.model, layers=["backbone.blocks.0"])
    told = teacher(batch, batch.view("weak"))
    torch.testing.assert_close(system.perceived(told.layers["backbone.blocks.0"], 2), told.tokens)


def test_what_all_places_share_is_no_part_of_the_frequency_term(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(64))
    system = built(tmp_path, data).eval()
    batch, shift = data.batch(torch.arange(8)), torch.zeros(1, 1, 32)
    shift[..., :5] = 3.0

    class Shifted(Frozen):
        def answer(self, batch: Batch, view: Any) -> Any:
            said = super().answer(batch, view)
            return type(said)(logits=said.logits, tokens=said.tokens + shift)

    before = system.losses(batch)
    system.teacher = Shifted(system.teacher.model)
    after = system.losses(batch)
    torch.testing.assert_close(before["frequency"], after["frequency"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before["spatial"], after["spatial"], rtol=1e-2)


def test_grids_of_any_size_meet_and_what_has_no_blocks_is_refused(tmp_path: Path) -> None:
    data = known.digits_on_canvas(16, digit=10, distractors=0).take(torch.arange(64))
    system = built(tmp_path, data, settings={"inner": "backbone.blocks.0"})
    inner, last = system.maps(data.batch(torch.arange(4)))[1]
    assert inner.shape[2:] == (8, 8) and last.shape[2:] == (4, 4) and system.projectors["spatial 1"](inner).shape[1] == 16
    with pytest.raises(UserError, match="learns from a vision transformer"):
        made("scalekd", data, tmp_path, teacher=Frozen(models.build("tiny-resnet", data.modality, data.classes, 0)))
    with pytest.raises(UserError, match="scalekd.later=9"):
        built(tmp_path, data, settings={"later": 9})
