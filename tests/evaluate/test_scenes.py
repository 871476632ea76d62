"""Mean overlap with its doubt, against what can be counted by hand."""

from __future__ import annotations

import pytest
import torch

from understudy import evaluate, models
from understudy.data import known
from understudy.data.composed import few_drawn, scenes
from understudy.errors import UserError


def test_mean_iou_is_counted_over_all_images_and_over_the_classes_that_occur() -> None:
    intersection, union = torch.tensor([[3, 0, 1], [1, 0, 1]]), torch.tensor([[4, 0, 1], [4, 0, 3]])
    found = evaluate.mean_iou(intersection, union)
    assert found.value == pytest.approx((4 / 8 + 2 / 4) / 2)
    assert found.low <= found.value <= found.high and found.n == 2


def test_the_interval_shrinks_with_the_number_of_images_and_a_gain_is_paired() -> None:
    one, two = torch.tensor([[6, 2], [2, 4]]), torch.full((2, 2), 8)
    few, many = (evaluate.mean_iou(one.repeat(n, 1), two.repeat(n, 1)) for n in (4, 100))
    assert few.value == pytest.approx(many.value) and few.high - few.low > 3 * (many.high - many.low)
    better = evaluate.mean_iou_gain((one.repeat(20, 1), two.repeat(20, 1)), (one.repeat(20, 1) + 1, two.repeat(20, 1)))
    assert better.value == pytest.approx(1 / 8) and better.low == pytest.approx(1 / 8) and better.high == pytest.approx(1 / 8)


def test_counts_of_a_model_and_what_has_none() -> None:
    data = few_drawn(scenes(known.digits(), 6), 4, 0)
    student = models.build("tiny-unet", data.modality, data.classes, 0)
    intersection, union = evaluate.pixel_counts(student, data)
    assert intersection.shape == (4, 11) and int(union.sum()) >= 4 * 32 * 32
    with pytest.raises(UserError, match="at least one image with a mask"):
        evaluate.pixel_counts(student, data.unlabelled)
    with pytest.raises(UserError, match="answer at every pixel"):
        evaluate.pixel_counts(models.build("tiny-resnet", known.digits().modality, known.digits().classes, 0), data)
