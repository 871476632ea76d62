"""Registers: they take part, come out nowhere, and are saved with the model."""

from __future__ import annotations

from pathlib import Path

import torch

from understudy import models
from understudy.data.modalities.table import TableModality
from understudy.models import Student
from understudy.models.optimization import decay_groups

COLUMNS = {"a": [0.5, 1.5, None, 2.0], "b": [1.0, 0.0, 3.0, 2.0], "c": ["x", "y", "x", None]}


def made() -> tuple[Student, dict[str, torch.Tensor]]:
    modality = TableModality.fit(COLUMNS)
    inputs = modality.view(modality.encode_columns(COLUMNS), "plain", torch.arange(4)).inputs
    return models.build("tiny-table", modality, ("x", "y"), 0).eval(), inputs


def test_they_take_part_and_come_out_nowhere() -> None:
    student, inputs = made()
    with_them = student.with_registers(3, key=1).eval()
    plain, other = student.features(inputs), with_them.features(inputs)
    assert other.tokens.shape == plain.tokens.shape and with_them.head is None
    assert not torch.allclose(other.pooled, plain.pooled)
    with torch.no_grad():
        with_them.backbone.registers[:, 0] += 1.0  # type: ignore[index, operator]
    assert not torch.allclose(with_them.features(inputs).pooled, other.pooled)
    torch.testing.assert_close(student.with_registers(0, key=1).eval().features(inputs).pooled, plain.pooled)


def test_they_are_kept_by_number_and_saved(tmp_path: Path) -> None:
    student, inputs = made()
    first = student.with_registers(2, key=1).eval()
    torch.testing.assert_close(first.with_registers(2, key=9).eval().features(inputs).pooled, first.features(inputs).pooled)
    models.save(first.with_head(("x", "y"), 3), tmp_path)
    again = models.load(tmp_path)
    torch.testing.assert_close(again.features(inputs).pooled, first.features(inputs).pooled)


def test_hidden_columns_stay_hidden_and_registers_do_not_decay() -> None:
    student = made()[0].with_registers(2, key=1).eval()
    inputs = made()[1]
    masked = torch.tensor([[True, False, False]]).expand(4, -1)
    changed = {**inputs, "numbers": inputs["numbers"] + torch.tensor([5.0, 0.0])}
    for drop in (False, True):
        torch.testing.assert_close(student.backbone(changed, masked, drop=drop).pooled, student.backbone(inputs, masked, drop=drop).pooled)
    decayed = {id(p) for group in decay_groups(student, 0.1) if group["weight_decay"] for p in group["params"]}
    assert id(student.backbone.registers) not in decayed
