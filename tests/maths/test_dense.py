"""Formulas at every pixel, against loops in numpy."""

from __future__ import annotations

import numpy as np
import torch

from understudy import keyed, maths

KEYS = keyed.fold(1, torch.arange(5))


def scenes() -> tuple[torch.Tensor, torch.Tensor]:
    logits, classes = keyed.normal(KEYS, (3, 6, 6)), keyed.integers(KEYS, 4, (6, 6))
    return logits, torch.where(classes == 3, 255, classes).to(torch.uint8)


def test_pixel_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    logits, classes = scenes()
    classes[2] = 255
    z, y = logits.double().numpy(), classes.numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    for smoothing in (0.0, 0.1):
        wanted = []
        for b in range(5):
            losses = []
            for i, j in zip(*np.nonzero(y[b] != 255), strict=True):
                target = np.full(3, smoothing / 3)
                target[y[b, i, j]] += 1 - smoothing
                losses.append(-(target * np.log(p[b, :, i, j])).sum())
            wanted.append(np.mean(losses) if losses else 0.0)
        found = maths.pixel_cross_entropy(logits, classes, smoothing)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)
    assert found[2] == 0


def test_no_gradient_where_nothing_is_labelled() -> None:
    logits, classes = scenes()
    logits.requires_grad_()
    maths.pixel_cross_entropy(logits, classes).sum().backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(1) > 0
    assert torch.equal(moved, classes != 255)


def test_carrying_there_and_back_is_standing_still() -> None:
    """A view that is mirrored and shifted by whole pixels: the inverse carries everything back that has not left the canvas."""
    _, classes = scenes()
    place = torch.tensor([[-1.0, 0.0, 2 / 6], [0.0, 1.0, -4 / 6]]).expand(5, -1, -1)
    plain = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).expand(5, -1, -1)
    view = maths.carried(classes, place, 6, 255)
    rows, columns = np.arange(6) - 2, 5 - np.arange(6) + 1
    for i in range(6):
        for j in range(6):
            inside = 0 <= rows[i] < 6 and 0 <= columns[j] < 6
            assert torch.equal(view[:, i, j], classes[:, rows[i], columns[j]] if inside else torch.full((5,), 255, dtype=torch.uint8))
    back = maths.carried(view, maths.between(plain, place), 6, 255)
    kept = back != 255
    assert torch.equal(back[kept], classes[kept]) and kept.float().mean() > 0.3


def test_between_is_the_inverse_of_the_known_place_after_the_seen_one() -> None:
    seen, known = keyed.normal(keyed.fold(KEYS, 1), (2, 3)), keyed.normal(keyed.fold(KEYS, 2), (2, 3))
    point = np.array([0.3, -0.7])
    for s, k, found in zip(seen.double().numpy(), known.double().numpy(), maths.between(seen, known).numpy(), strict=True):
        canvas = s[:, :2] @ point + s[:, 2]
        np.testing.assert_allclose(found[:, :2] @ point + found[:, 2], np.linalg.inv(k[:, :2]) @ (canvas - k[:, 2]), rtol=2e-3, atol=2e-4)


def test_overlaps_and_their_mean_against_loops() -> None:
    logits, classes = scenes()
    answers = logits.argmax(1)
    intersection, union = maths.overlaps(answers, classes, 3)
    a, y = answers.numpy(), classes.numpy()
    for b in range(5):
        for c in range(3):
            mine, theirs = (a[b] == c) & (y[b] != 255), y[b] == c
            assert int(intersection[b, c]) == (mine & theirs).sum()
            assert int(union[b, c]) == (mine | theirs).sum()
    both, either = intersection.sum(0).numpy(), union.sum(0).numpy()
    np.testing.assert_allclose(float(maths.mean_overlap(intersection.sum(0), union.sum(0))), (both / either).mean())
    assert maths.mean_overlap(torch.tensor([3, 0]), torch.tensor([4, 0])) == 0.75
