"""From a folder of images to a model that draws them, and on to one that draws in one step, as a user goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import understudy as us
from understudy import models
from understudy.errors import UserError

from .conftest import FEW

TINY = [*FEW, "train.steps=4", "student.width=32", "student.depth=2"]


def test_a_flow_model_its_aligned_twin_and_its_shortcut(digits: Path, tmp_path: Path) -> None:
    flow = us.pretrain(digits / "images", system="flow-matching", student="tiny-dit", out=tmp_path / "flow", quiet=True, set=TINY)
    assert flow.student.head is None
    with Image.open(tmp_path / "flow" / "samples.png") as sheet:
        assert sheet.size[0] == sheet.size[1] > 16
    given = {"student": "tiny-dit", "quiet": True, "set": TINY}
    aligned = us.distill(digits / "images", teacher=f"run:{tmp_path / 'flow'}", system="repa", out=tmp_path / "repa", **given)
    assert aligned.student.head is None and aligned.result is None and (tmp_path / "repa" / "samples.png").is_file()
    us.distill(digits / "images", teacher=f"run:{tmp_path / 'flow'}", system="boot", out=tmp_path / "boot", **given)
    assert models.load(tmp_path / "boot").spec["jumps"]


def test_a_classifier_is_no_start_for_either(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use tiny-dit"):
        us.pretrain(digits / "images", system="flow-matching", out=tmp_path / "x", quiet=True, set=FEW)
