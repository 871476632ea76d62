"""The student that answers at every pixel: shapes of any view, saved and loaded, a head of other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy import models
from understudy.data.modalities import ImageModality, SegmentationModality
from understudy.errors import UserError
from understudy.models import Segmenter

CLASSES = ("a", "b", "c")


@pytest.mark.parametrize("name", ["tiny-unet", "small-unet", "base-unet", "auto"])
@pytest.mark.parametrize("size", [16, 23])
def test_there_is_an_answer_at_every_pixel(name: str, size: int) -> None:
    student = models.build(name, SegmentationModality(16, 1), CLASSES, 0)
    pixels = {"pixels": torch.rand(2, 1, size, size)}
    assert isinstance(student, Segmenter) and student(pixels).shape == (2, 3, size, size)
    features = student.features(pixels)
    assert features.tokens.shape == (2, student.backbone.positions(pixels), student.backbone.width) and features.pooled.shape == (2, student.backbone.width)


def test_it_answers_where_the_pixels_are() -> None:
    """A change in one corner is felt there and not in the other."""
    student = models.build("tiny-unet", SegmentationModality(64, 1), CLASSES, 0, norm=False).eval()
    pixels = torch.zeros(1, 1, 64, 64)
    changed = pixels.clone()
    changed[..., :4, :4] = 1.0
    moved = (student({"pixels": changed}) - student({"pixels": pixels})).detach().abs().sum(1)[0]
    assert float(moved[:8, :8].mean()) > 20 * float(moved[48:, 48:].mean())


def test_saved_loaded_and_given_other_classes(tmp_path: Path) -> None:
    student = models.build("tiny-unet", SegmentationModality(16, 3), CLASSES, 0).eval()
    models.save(student, tmp_path)
    again, pixels = models.load(tmp_path), {"pixels": torch.rand(2, 3, 16, 16)}
    assert isinstance(again, Segmenter) and torch.equal(again(pixels), student(pixels))
    other = again.with_head(("x", "y"), 3)
    assert isinstance(other, Segmenter) and other(pixels).shape == (2, 2, 16, 16) and isinstance(again.reinitialised(1), Segmenter)


def test_models_of_images_do_not_read_masks() -> None:
    with pytest.raises(UserError, match="reads image, and the data are segmentation; use"):
        models.build("tiny-resnet", SegmentationModality(16, 1), CLASSES, 0)
    with pytest.raises(UserError, match="reads segmentation, and the data are image"):
        models.build("tiny-unet", ImageModality(16, 1), CLASSES, 0)
