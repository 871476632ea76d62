"""Formulas of boxes, against loops in numpy and against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy import keyed, maths

KEYS = keyed.fold(1, torch.arange(4))


def boxes(count: int, key: int = 0) -> torch.Tensor:
    """``[4, count, 4]`` in the square."""
    drawn = keyed.uniform(keyed.fold(KEYS, key), (count, 2, 2), -1.0, 1.0).double().sort(dim=2).values
    return drawn.flatten(2)


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Intersection, union, area of the box around both."""
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    both = max(width, 0) * max(height, 0)
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return both, (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both, around


def test_overlaps_of_boxes() -> None:
    a, b = boxes(5), boxes(5, 1)
    assert bool((a[..., :2] <= a[..., 2:]).all())
    table, pairs = maths.iou(a, b).numpy(), maths.giou(a, b).numpy()
    for n in range(4):
        for i in range(5):
            for j in range(5):
                both, either, around = overlap(a[n, i].numpy(), b[n, j].numpy())
                assert table[n, i, j] == pytest.approx(both / either, abs=1e-12)
                if i == j:
                    assert pairs[n, i] == pytest.approx(both / either - (around - either) / around, abs=1e-12)
    vision = pytest.importorskip("torchvision.ops")
    torch.testing.assert_close(maths.iou(a[0], b[0]), vision.box_iou(a[0], b[0]))
    torch.testing.assert_close(maths.giou(a[0], b[0]), vision.generalized_box_iou(a[0], b[0]).diagonal())


def test_a_box_moves_with_its_corners() -> None:
    """The hull of a box under an affine map holds all of its moved corners, and nothing more."""
    place, some = keyed.normal(keyed.fold(KEYS, 2), (2, 3)).double(), boxes(6)
    moved = maths.hull(some, place).numpy()
    for n in range(4):
        for i in range(6):
            x1, y1, x2, y2 = some[n, i].numpy()
            corners = np.array([(x1, y1), (x1, y2), (x2, y1), (x2, y2)]) @ place[n, :, :2].numpy().T + place[n, :, 2].numpy()
            np.testing.assert_allclose(moved[n, i], [*corners.min(0), *corners.max(0)], atol=1e-12)


def test_there_and_back_is_standing_still() -> None:
    some = boxes(6).float()
    place = torch.tensor([[-0.5, 0.0, 0.2], [0.0, 1.5, -0.3]]).expand(4, -1, -1)
    still = torch.eye(2, 3).expand(4, -1, -1)
    torch.testing.assert_close(maths.hull(maths.hull(some, maths.between(still, place)), place), some, atol=1e-5, rtol=1e-5)


def test_clipping_says_what_share_is_left() -> None:
    inside, share = maths.clipped_boxes(torch.tensor([[-2.0, -1.0, 0.0, 1.0], [0.0, 0.0, 0.5, 0.5], [2.0, 0.0, 3.0, 1.0], [0.3, 0.3, 0.3, 0.3]]))
    assert share.tolist() == [0.5, 1.0, 0.0, 0.0]
    assert inside[0].tolist() == [-1.0, -1.0, 0.0, 1.0]


def test_focal_loss_is_the_papers() -> None:
    logits, target = keyed.normal(KEYS, (3, 5)).double(), (keyed.uniform(keyed.fold(KEYS, 3), (3, 5)) > 0.5).double()
    z, y = logits.numpy(), target.numpy()
    p = 1 / (1 + np.exp(-z))
    right = np.where(y == 1, p, 1 - p)
    wanted = -np.where(y == 1, 0.25, 0.75) * (1 - right) ** 2 * np.log(right)
    np.testing.assert_allclose(maths.focal(logits, target).numpy(), wanted, rtol=1e-10)
    vision = pytest.importorskip("torchvision.ops")
    torch.testing.assert_close(maths.focal(logits, target, 1.5, 0.4), vision.sigmoid_focal_loss(logits, target, alpha=0.4, gamma=1.5))
    soft = maths.focal(logits, torch.full_like(logits, 0.3), 2.0, 0.5).numpy()
    np.testing.assert_allclose(soft, -0.5 * (p - 0.3) ** 2 * (0.3 * np.log(p) + 0.7 * np.log(1 - p)), rtol=1e-10)


@pytest.mark.parametrize("overlap_allowed", [0.1, 0.5])
def test_of_overlapping_boxes_the_surest_stay(overlap_allowed: float) -> None:
    some = boxes(40, 4)
    some[:, 20:30] = 0.9 * some[:, :10] + 0.02  # almost the same
    scores = keyed.uniform(keyed.fold(KEYS, 5), (40,)).sort(dim=1, descending=True).values
    scores[:, 36:] = 0.0
    classes = keyed.integers(keyed.fold(KEYS, 6), 3, (40,))
    keep = maths.kept_boxes(some, scores, classes, overlap_allowed)
    for n in range(4):
        stay: list[int] = []
        for i in range(36):
            if all(classes[n, i] != classes[n, j] or (lambda o: o[0] / o[1])(overlap(some[n, i].numpy(), some[n, j].numpy())) <= overlap_allowed for j in stay):
                stay.append(i)
        assert keep[n].nonzero().squeeze(1).tolist() == stay and len(stay) < 36
    vision = pytest.importorskip("torchvision.ops")
    theirs = vision.batched_nms(some[0, :36], scores[0, :36].double(), classes[0, :36], overlap_allowed)
    assert sorted(theirs.tolist()) == keep[0].nonzero().squeeze(1).tolist()


def test_a_place_answers_for_the_smallest_box_whose_centre_it_lies_in() -> None:
    steps = (torch.arange(8) + 0.5) / 4 - 1
    places = torch.stack([steps.repeat(8), steps.repeat_interleave(8)], 1)
    some, real = boxes(5, 7).float(), torch.tensor([True, True, True, True, False]).expand(4, -1)
    some[:, 3] = torch.tensor([0.3, 0.3, 0.301, 0.301])  # far smaller than a cell
    found = maths.assigned_boxes(some, real, places, 0.25)
    for n in range(4):
        for place, which in zip(places.numpy(), found[n].tolist(), strict=True):
            best, area = -1, np.inf
            for i in range(4):
                x1, y1, x2, y2 = some[n, i].numpy()
                middle, half = np.array([x1 + x2, y1 + y2]) / 2, np.array([x2 - x1, y2 - y1]) / 2
                reach = np.maximum(np.minimum(half, 1.5 * 0.25), 0.125)
                if (np.abs(place - middle) <= reach).all() and 4 * half.prod() < area:
                    best, area = i, 4 * half.prod()
            assert which == best
        assert 3 in found[n].tolist(), "a tiny box has a place of its own"


def test_unsteadiness_is_the_spread_of_what_is_answered_around_the_middle() -> None:
    """Of a map whose answers grow linearly, interpolation is exact: the spread is that of the places asked."""
    steps = (torch.arange(16) + 0.5) / 8 - 1
    x, y = steps.expand(16, -1), steps.unsqueeze(1).expand(-1, 16)
    answers = torch.stack([0.5 * x, 0.2 * y, torch.zeros(16, 16), 0.3 * x + 0.1 * y]).expand(4, -1, -1, -1)
    some = torch.tensor([[-0.4, -0.3, 0.2, 0.5], [0.1, -0.2, 0.3, 0.4]]).expand(4, -1, -1)
    offsets = 0.06 * keyed.normal(keyed.fold(KEYS, 8), (2, 10, 2))
    found = maths.unsteadiness(answers, some, offsets).double().numpy()
    for n in range(4):
        for i in range(2):
            x1, y1, x2, y2 = some[n, i].double().numpy()
            asked = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + offsets[n, i].double().numpy() * np.array([x2 - x1, y2 - y1])
            told = np.stack([0.5 * asked[:, 0], 0.2 * asked[:, 1], 0 * asked[:, 0], 0.3 * asked[:, 0] + 0.1 * asked[:, 1]])
            assert found[n, i] == pytest.approx(told.std(1, ddof=1).mean() / ((x2 - x1 + y2 - y1) / 2), rel=1e-4)
