"""Average precision, against what can be counted by hand."""

from __future__ import annotations

import pytest
import torch

from understudy import evaluate, models
from understudy.data import known
from understudy.data.composed import boxed_scenes, few_drawn
from understudy.errors import UserError
from understudy.evaluate.boxes import joined, matched

A, B, FAR = [-0.9, -0.9, -0.5, -0.5], [0.1, 0.1, 0.5, 0.5], [0.6, -0.9, 0.9, -0.6]
NOTHING = [-1.0, -1.0, -1.0, -1.0]


def counted(found: list[tuple[list[float], float, int]], truth: list[tuple[list[float], int]], classes: int = 1) -> evaluate.BoxMatches:
    """One image."""
    boxes = torch.tensor([[box for box, _, _ in found]])
    true = torch.tensor([[[*box, float(kind)] for box, kind in truth]])
    scores, kinds = torch.tensor([[score for _, score, _ in found]]), torch.tensor([[kind for _, _, kind in found]])
    return matched(boxes, scores, kinds, true, classes)


def moved(box: list[float], share: float) -> list[float]:
    """Moved right by a share of its width."""
    step = share * (box[2] - box[0])
    return [box[0] + step, box[1], box[2] + step, box[3]]


def test_the_example_by_hand() -> None:
    """Two true boxes; found are one, then something wrong, then the other: precision 1 up to a recall of a half, and two thirds from there."""
    found = counted([(A, 0.9, 0), (FAR, 0.8, 0), (B, 0.7, 0)], [(A, 0), (B, 0), (NOTHING, -1)])
    assert float(found.precision()[0, 0]) == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101)
    assert found.proportion().value == pytest.approx((51 + 50 * 2 / 3) / 101) and found.proportion().n == 1


def test_a_true_box_is_found_once() -> None:
    once, twice = counted([(A, 0.9, 0)], [(A, 0)]), counted([(A, 0.9, 0), (moved(A, 0.05), 0.8, 0), (B, 0.7, 0)], [(A, 0), (B, 0)])
    assert float(once.precision()[0, 0]) == pytest.approx(1.0)
    assert twice.right[:, 0].tolist() == [True, False, True]


def test_the_overlap_decides_at_every_level() -> None:
    """Moved by a fifth of its width a box overlaps by 0.8 / 1.2 = 2/3: right at .5, .55, .6 and .65."""
    found = counted([(moved(A, 0.2), 0.9, 0)], [(A, 0)])
    assert found.right[0].tolist() == [True] * 4 + [False] * 6
    assert found.strict() == pytest.approx(0.4)


def test_classes_count_alike_and_those_that_do_not_occur_not_at_all() -> None:
    found = counted([(A, 0.9, 0), (B, 0.8, 0), (FAR, 0.3, 2)], [(A, 0), (B, 1)], classes=3)
    precision = found.precision()[:, 0]
    assert precision[0] == pytest.approx(1.0) and precision[1] == 0.0 and bool(precision[2].isnan())
    assert found.proportion().value == pytest.approx(0.5)


def test_images_are_counted_together_and_a_gain_is_paired() -> None:
    good, bad = counted([(A, 0.9, 0)], [(A, 0)]), counted([(FAR, 0.95, 0)], [(A, 0)])
    both = joined([good, _numbered(bad, 1)])
    # The surest answer is wrong: precision is a half up to a recall of a half, and nothing beyond.
    assert both.proportion().value == pytest.approx(51 * 0.5 / 101)
    assert both.proportion().low <= both.proportion().value <= both.proportion().high
    right = joined([good, _numbered(counted([(A, 0.9, 0)], [(A, 0)]), 1)])
    gain = right.over(both)
    assert gain.value == pytest.approx(1 - 51 * 0.5 / 101) and gain.n == 2 and gain.low <= gain.value <= gain.high


def _numbered(found: evaluate.BoxMatches, image: int) -> evaluate.BoxMatches:
    return evaluate.BoxMatches(found.scores, found.classes, found.images + image, found.right, found.there)


def test_counts_of_a_model_and_what_has_none() -> None:
    data = few_drawn(boxed_scenes(known.digits(), known.digits(), 6), 4, 0)
    student = models.build("tiny-boxnet", data.modality, data.classes, 0)
    found = evaluate.BoxMatches.of(student, data)
    assert found.there.shape == (4, 10) and int(found.there.sum()) >= 4 and 0 <= found.proportion().value <= 1
    with pytest.raises(UserError, match="at least one image with boxes"):
        evaluate.BoxMatches.of(student, data.unlabelled)
    with pytest.raises(UserError, match="models that find boxes"):
        evaluate.BoxMatches.of(models.build("tiny-resnet", known.digits().modality, known.digits().classes, 0), data)
