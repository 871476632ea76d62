"""TinyCLIP: what is cut is the teacher's, stages shrink to the student, and affinities teach without moving who tells them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models import Student
from understudy.models.inherit import inherited
from understudy.models.zero_shot import by_names
from understudy.teachers.kinds import Frozen

BIG: dict[str, Any] = {"width": 48, "depth": 3, "text_depth": 2, "heads": 3, "joint": 16}
SMALL: dict[str, Any] = {"width": 32, "depth": 2, "text_depth": 1, "heads": 2, "joint": 16}


def clip(data: Samples, key: int, **options: Any) -> Student:
    return models.build("tiny-clip", data.modality, (), key, **options)


def colours(samples: Samples) -> Samples:
    return replace(samples, modality=samples.modality.image, labels=samples.labels // 10, classes=tuple(known.COLOURS))  # type: ignore[attr-defined]


def test_a_cut_model_taught_by_affinities_beats_the_same_steps_of_contrast() -> None:
    train, test = hold_out(known.captioned_digits(1), 0.3, 100)
    common: dict[str, Any] = {"train__batch": 64, "optim__lr": 3e-3, "watch__action": "off"}
    teacher = learn("clip", clip(train, 1, **BIG), train, seed=0, steps=80, settings={"view": "plain"}, **common).student
    start = clip(train, 0, **SMALL)
    told = learn(
        "tinyclip", start, train, seed=0, steps=24, settings={"stages": 2}, teacher=Frozen(teacher), **common, **{"tinyclip-stage.view": "plain"}
    ).student
    alone = learn("clip", start, train, seed=0, steps=24, settings={"view": "plain"}, **common).student
    named = [accuracy(by_names(one, tuple(known.COLOURS), ("a {} one", "written in {}")), colours(test)) for one in (told, alone)]
    assert told.spec == start.spec and named[0] > named[1] + 0.1


def test_inherited_weights_are_the_teachers_blocks_heads_and_channels() -> None:
    data = known.captioned_digits(1).take(torch.arange(8))
    small, big = clip(data, 0, **SMALL).backbone, clip(data, 1, **{**BIG, "depth": 4}).backbone
    inherited(small, big)
    own, theirs = small.image.blocks[1], big.image.blocks[2]
    for chunk in range(3):  # queries, keys, values of the first two heads of 16
        assert torch.equal(own.attention.qkv.weight[32 * chunk : 32 * chunk + 32], theirs.attention.qkv.weight[48 * chunk : 48 * chunk + 32, :32])
        assert torch.equal(own.attention.qkv.bias[32 * chunk : 32 * chunk + 32], theirs.attention.qkv.bias[48 * chunk : 48 * chunk + 32])
    assert torch.equal(own.mlp[2].weight, theirs.mlp[2].weight[:32, :128]) and torch.equal(small.from_text.weight, big.from_text.weight[:, :32])
    same = clip(data, 2, **BIG).backbone
    whole = clip(data, 3, **BIG).backbone
    inherited(same, whole)
    inputs = data.batch(torch.arange(8)).view("plain").inputs
    assert torch.equal(same.images(inputs), whole.images(inputs)) and torch.equal(same.texts(inputs), whole.texts(inputs))


def test_stages_shrink_from_the_teacher_to_the_student(tmp_path: Path) -> None:
    data = known.captioned_digits(1).take(torch.arange(32))
    system = made("tinyclip", data, tmp_path, clip(data, 0, **{**SMALL, "heads": 1, "width": 16}), teacher=Frozen(clip(data, 1, **{**BIG, "depth": 4})))
    between = system.sized(system.task.teacher.model, 1 / 2).spec["options"]
    assert between == {"width": 32, "depth": 3, "text_depth": 2, "heads": 2, "joint": 16}
    with pytest.raises(UserError, match="the student must be smaller"):
        made("tinyclip", data, tmp_path, clip(data, 0, **BIG), teacher=Frozen(clip(data, 1, **SMALL)))
    with pytest.raises(UserError, match="--student tiny-clip"):
        made("tinyclip", data, tmp_path, clip(data, 0, **SMALL), teacher=Frozen(torch.nn.Linear(2, 2)))


def test_the_teacher_gets_no_gradient_and_each_side_has_its_own_scale(tmp_path: Path) -> None:
    data = known.captioned_digits(1).take(torch.arange(32))
    teacher = clip(data, 1, **BIG)
    system = made("tinyclip-stage", data, tmp_path, clip(data, 0, **SMALL), teacher=Frozen(teacher))
    assert system.model.scale.exp().item() == pytest.approx(50.0) and system.theirs.scale.exp().item() == pytest.approx(1 / 0.07)
    batch = data.batch(torch.arange(16))
    before = system.losses(batch)["affinity"]
    before.backward()
    assert system.model.scale.grad.abs().sum() > 0 and all(p.grad is None for p in teacher.parameters())
    assert not any("teacher" in name for name, _ in system.named_parameters())
    with torch.no_grad():
        teacher.backbone.scale.fill_(math.log(100.0))
        sharper = system.losses(batch)["affinity"]
        system.model.scale.fill_(9.0)
        system.after_step()
    assert not torch.isclose(before, sharper) and system.model.scale.exp().item() == pytest.approx(100.0)


def test_a_model_that_says_what_its_teacher_says_has_nothing_to_learn(tmp_path: Path) -> None:
    data = known.captioned_digits(1).take(torch.arange(32))
    teacher = clip(data, 1, **SMALL)
    with torch.no_grad():
        teacher.backbone.scale.fill_(math.log(50.0))
    system = made("tinyclip-stage", data, tmp_path, teacher.clone(), teacher=Frozen(teacher))
    system.losses(data.batch(torch.arange(16)))["affinity"].backward()
    assert max(p.grad.abs().max() for p in system.model.parameters() if p.grad is not None) < 1e-4
