"""Prototype assignment against the textbook iteration, DINO against a double loop, k-means where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from understudy import keyed, maths

RNG = np.random.default_rng(5)


def test_sinkhorn_is_the_textbook_iteration() -> None:
    logits = RNG.normal(size=(12, 4)) * 0.1
    q = np.exp(logits / 0.05).T
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(1, keepdims=True) * 4
        q /= q.sum(0, keepdims=True) * 12
    np.testing.assert_allclose(maths.sinkhorn_knopp(torch.tensor(logits), 0.05), q.T * 12, rtol=1e-10)


def test_sinkhorn_marginals() -> None:
    q = maths.sinkhorn_knopp(torch.tensor(RNG.normal(size=(32, 8))), 0.5, iterations=200)
    np.testing.assert_allclose(q.sum(1), np.ones(32), rtol=1e-10)
    np.testing.assert_allclose(q.sum(0), np.full(8, 4.0), rtol=1e-6)


def test_sinkhorn_survives_logits_that_overflow_an_exponential() -> None:
    q = maths.sinkhorn_knopp(torch.tensor(RNG.normal(size=(16, 4)) * 50, dtype=torch.float32), 0.04)
    assert torch.isfinite(q).all()
    torch.testing.assert_close(q.sum(1), torch.ones(16))


def test_centre() -> None:
    logits, centre = RNG.normal(size=(6, 4)), RNG.normal(size=4)
    found = maths.centred_softmax(torch.tensor(logits), torch.tensor(centre), 0.04)
    np.testing.assert_allclose(found, softmax((logits - centre) / 0.04, -1), rtol=1e-9)
    np.testing.assert_allclose(maths.updated_centre(torch.tensor(centre), torch.tensor(logits), 0.9), 0.9 * centre + 0.1 * logits.mean(0), rtol=1e-12)


def test_dino_pairs_every_teacher_view_with_every_other_student_view() -> None:
    student = [RNG.normal(size=(3, 5)) for _ in range(2 + 4)]
    teacher = [softmax(RNG.normal(size=(3, 5)), -1) for _ in range(2)]
    pairs = [-(teacher[i] * log_softmax(student[j] / 0.1, -1)).sum(-1) for i in range(2) for j in range(6) if i != j]
    assert len(pairs) == 2 + 8
    found = maths.dino_loss([torch.tensor(s) for s in student], [torch.tensor(p) for p in teacher])
    np.testing.assert_allclose(found, np.mean(pairs, 0), rtol=1e-10)


def test_dino_of_uniform_sides_is_log_k() -> None:
    found = maths.dino_loss([torch.zeros(2, 64)] * 3, [torch.full((2, 64), 1 / 64)] * 2)
    torch.testing.assert_close(found, torch.full((2,), np.log(64), dtype=torch.float32))


def test_ibot_means_over_masked_tokens() -> None:
    student, teacher = RNG.normal(size=(3, 4, 5)), softmax(RNG.normal(size=(3, 4, 5)), -1)
    masked = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    each = -(teacher * log_softmax(student / 0.1, -1)).sum(-1)
    want = [each[0, [0, 3]].mean(), 0.0, each[2].mean()]
    np.testing.assert_allclose(maths.ibot_loss(torch.tensor(student), torch.tensor(teacher), torch.tensor(masked)), want, rtol=1e-10)


def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    which = torch.arange(120) % 4
    centres = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]]) + 1000
    return centres[which] + 0.5 * keyed.normal(7, (120, 2)), which


def test_kmeans_finds_separated_blobs() -> None:
    points, which = blobs()
    assignment, centroids = maths.kmeans(points, 4, key=0)
    assert len({(int(a), int(b)) for a, b in zip(assignment, which, strict=True)}) == 4
    for c in range(4):
        torch.testing.assert_close(centroids[c], points[assignment == c].mean(0))


def test_kmeans_is_a_function_of_its_key_and_uses_every_cluster() -> None:
    points = keyed.normal(3, (200, 5))
    first, again, other = (maths.kmeans(points, 20, key)[0] for key in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first.unique()) == 20


def test_kmeans_with_fewer_distinct_points_than_clusters() -> None:
    assignment, centroids = maths.kmeans(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), 3, key=0)
    assert torch.isfinite(centroids).all() and assignment[0] == assignment[1] != assignment[2]
    with pytest.raises(ValueError, match="5 clusters of 4 points"):
        maths.kmeans(torch.zeros(4, 1), 5, key=0)


def test_bag_of_words() -> None:
    rng = np.random.default_rng(11)
    features, words = rng.normal(size=(3, 5, 4)), rng.normal(size=(7, 4))
    distance = ((features[:, :, None] - words) ** 2).sum(-1)
    codes = np.exp(-15 * distance / 2.5)
    codes = (codes / codes.sum(-1, keepdims=True)).max(1)
    bag, nearest = maths.bag_of_words(torch.tensor(features), torch.tensor(words), torch.tensor(2.5, dtype=torch.float64), 15.0)
    np.testing.assert_allclose(bag, codes / codes.sum(-1, keepdims=True), rtol=1e-6)
    assert float(nearest) == pytest.approx(distance.min(-1).mean(), rel=1e-9)
