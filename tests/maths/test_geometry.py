"""Clouds of points against plain loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from understudy import keyed, maths


def test_the_farthest_points_one_by_one() -> None:
    points = keyed.normal(3, (4, 30, 3)).double()
    for row, chosen in zip(points.numpy(), maths.farthest_points(points, 6).tolist(), strict=True):
        wanted = [int(((row - row.mean(0)) ** 2).sum(1).argmax())]
        while len(wanted) < 6:
            wanted.append(int(np.min([((row - row[i]) ** 2).sum(1) for i in wanted], axis=0).argmax()))
        assert chosen == wanted


def test_chamfer_is_the_mean_of_nearest_squares_both_ways() -> None:
    a, b = keyed.normal(1, (2, 5, 3)).double(), keyed.normal(2, (2, 8, 3)).double()
    for i, distance in enumerate(maths.chamfer(a, b).tolist()):
        squared = ((a[i].numpy()[:, None] - b[i].numpy()[None]) ** 2).sum(-1)
        assert math.isclose(distance, squared.min(1).mean() + squared.min(0).mean(), rel_tol=1e-5)
    assert maths.chamfer(a, a).abs().max() == 0
    guess, truth = a.clone().requires_grad_(), b.clone().requires_grad_()
    maths.chamfer(guess, truth).sum().backward()
    assert guess.grad is not None and truth.grad is None


def test_a_depth_image_shows_what_is_nearest() -> None:
    # Seen from +z at angle 0 with y upwards: two points on one ray, one at the top right, and the same from behind.
    points = torch.tensor([[[0.1, 0.1, 0.5], [0.1, 0.1, -0.5], [0.9, 0.9, 0.0]]], dtype=torch.float64)
    sides = [maths.depth_image(points, k * math.pi / 2, 1, 4)[0] for k in range(4)]
    shown = [sorted(image[image > 0].tolist()) for image in sides]
    front = next(i for i, values in enumerate(shown) if values == pytest.approx([0.5, 0.75]))
    assert shown[(front + 2) % 4] == pytest.approx([0.5, 0.75]) and sum(len(values) for values in shown) == 10
    assert all(float(image[0].amax()) > 0 for image in sides)  # the high point stands in the uppermost row from every side
    assert not any(bool(image[3].any()) for image in sides)
