"""Contrastive losses against loops over pairs, and the traps of nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from understudy import maths

RNG = np.random.default_rng(3)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def supcon(views: list[np.ndarray], temperature: float) -> float:
    z = unit(np.concatenate(views))
    sample = np.tile(np.arange(len(views[0])), len(views))
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        denominator = np.log(sum(np.exp(z[i] @ z[j] / temperature) for j in others))
        losses.append(np.mean([denominator - z[i] @ z[j] / temperature for j in others if sample[j] == sample[i]]))
    return float(np.mean(losses))


@pytest.mark.parametrize("count", [2, 3])
def test_info_nce(count: int) -> None:
    views = [RNG.normal(size=(5, 4)) for _ in range(count)]
    assert float(maths.info_nce([torch.tensor(v) for v in views], 0.1)) == pytest.approx(supcon(views, 0.1), rel=1e-10)


def test_nt_xent_masks_the_self_pair() -> None:
    za, zb = RNG.normal(size=(2, 6, 3))
    found = maths.nt_xent(torch.tensor(za), torch.tensor(zb), 0.5)
    assert float(found) == pytest.approx(supcon([za, zb], 0.5), rel=1e-10)
    z = torch.eye(6, dtype=torch.float64)
    closed = np.log(np.e + 10) - 1  # per anchor: one positive of similarity 1, ten others of similarity 0
    assert float(maths.nt_xent(z, z, 1.0)) == pytest.approx(closed, rel=1e-12)


def test_nt_xent_gradient() -> None:
    za, zb = (torch.tensor(RNG.normal(size=(4, 3)), requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: maths.nt_xent(a, b, 0.2), (za, zb))


def test_mimicked_pairs_is_the_cross_entropy_of_rows_and_of_columns() -> None:
    a, b, c, d = (RNG.normal(size=(5, width)) for width in (4, 4, 7, 7))
    said, told = 20 * unit(a) @ unit(b).T, 50 * unit(c) @ unit(d).T
    want = 0.0
    for own, other in ((said, told), (said.T, told.T)):
        for i in range(5):
            shares = np.exp(other[i] - other[i].max()) / np.exp(other[i] - other[i].max()).sum()
            want += -(shares * log_softmax(own[i])).sum() / 10
    a, b, c, d = (torch.tensor(x, requires_grad=True) for x in (a, b, c, d))
    found = maths.mimicked_pairs(a, b, 20.0, teacher=(c, d), teacher_scale=50.0)
    assert found.item() == pytest.approx(want, rel=1e-10)
    found.backward()
    assert c.grad is None and d.grad is None and a.grad.abs().sum() > 0 and b.grad.abs().sum() > 0


def test_mimicked_pairs_of_a_sure_teacher_are_matched_pairs() -> None:
    a, b = (torch.tensor(x) for x in RNG.normal(size=(2, 6, 3)))
    one = torch.eye(6, dtype=torch.float64)
    sure = maths.mimicked_pairs(a, b, 7.0, teacher=(one, one), teacher_scale=500.0)
    assert float(sure) == pytest.approx(float(maths.matched_pairs(a, b, 7.0)), rel=1e-12)


def test_margin_pairs() -> None:
    a, b = RNG.normal(size=(2, 6, 3))
    same, weights = np.array([1, 0, 1, 0, 1, 0], bool), RNG.uniform(size=6)
    for distance, d in (("cosine", 1 - (unit(a) * unit(b)).sum(-1)), ("squared", ((a - b) ** 2).mean(-1))):
        want = weights * np.where(same, d**2, np.maximum(0, 1 - d) ** 2)
        found = maths.margin_pairs(torch.tensor(a), torch.tensor(b), torch.tensor(same), torch.tensor(weights), distance=distance)
        np.testing.assert_allclose(found, want, rtol=1e-10)


def test_koleo_is_the_mean_log_distance_to_the_nearest_other() -> None:
    z = RNG.normal(size=(7, 4))
    distance = np.linalg.norm(unit(z)[:, None] - unit(z)[None], axis=-1) + np.diag(np.full(7, np.inf))
    assert float(maths.koleo(torch.tensor(z))) == pytest.approx(-np.log(distance.min(1)).mean(), rel=1e-6)


def test_koleo_with_duplicates_is_finite() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = maths.koleo(z)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


def test_koleo_of_one_sample_is_zero() -> None:
    z = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = maths.koleo(z)
    loss.backward()
    assert loss.item() == 0.0 and torch.equal(z.grad, torch.zeros(1, 4))


def test_koleo_pushes_neighbours_apart() -> None:
    z = torch.tensor([[1.0, 0.1], [1.0, -0.1]], requires_grad=True)
    maths.koleo(z).backward()
    assert z.grad[0, 1] < 0 < z.grad[1, 1]  # a descent step moves the first up and the second down


def vote(query: np.ndarray, label: int, bank: np.ndarray, labels: np.ndarray, others: np.ndarray, k: int, temperature: float) -> float:
    similarity = np.array([unit(query) @ unit(b) for b in bank])
    allowed = [j for j in range(len(bank)) if others[j]]
    near = sorted(allowed, key=lambda j: -similarity[j])[:k]
    right = [j for j in allowed if labels[j] == label]
    if not right:
        return 0.0
    if not set(near) & set(right):
        near.append(max(right, key=lambda j: similarity[j]))
    weight = {j: np.exp(similarity[j] / temperature) for j in near}
    return float(-np.log(sum(w for j, w in weight.items() if labels[j] == label) / sum(weight.values())))


@pytest.mark.parametrize("k", [1, 3, 12])
def test_leave_one_out(k: int) -> None:
    query, bank = RNG.normal(size=(9, 4)), RNG.normal(size=(12, 4))
    labels, bank_labels = RNG.integers(0, 4, 9), RNG.integers(0, 3, 12)  # label 3 is in no bank
    others = RNG.uniform(size=(9, 12)) < 0.8
    found = maths.leave_one_out(*(torch.tensor(x) for x in (query, labels, bank, bank_labels, others)), k, 0.1)
    want = [vote(query[i], labels[i], bank, bank_labels, others[i], k, 0.1) for i in range(9)]
    np.testing.assert_allclose(found, want, atol=1e-9)


def test_leave_one_out_in_an_empty_bank_costs_nothing_and_has_no_gradient() -> None:
    query = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = maths.leave_one_out(query, torch.tensor([0, 1]), torch.zeros(4, 3), torch.full((4,), -1), torch.zeros(2, 4, dtype=torch.bool), 2, 0.1)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0] and torch.equal(query.grad, torch.zeros(2, 3))


def test_class_pairs_are_means_over_both_kinds() -> None:
    rng = np.random.default_rng(8)
    z, labels, w = rng.normal(size=(7, 5)), rng.integers(0, 3, 7), rng.random(7)
    cosine = z @ z.T / np.outer(np.linalg.norm(z, axis=1), np.linalg.norm(z, axis=1))
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for i in range(7):
        for j in range(i):
            same = bool(labels[i] == labels[j])
            kinds[same].append(w[i] * w[j] * ((1 - cosine[i, j]) ** 2 if same else max(0.0, cosine[i, j]) ** 2))
    found = maths.class_pairs(torch.tensor(z), torch.tensor(labels), torch.tensor(w))
    np.testing.assert_allclose(found, np.mean(kinds[True]) + np.mean(kinds[False]), rtol=1e-10)
    assert maths.class_pairs(torch.tensor(z[:1]), torch.tensor(labels[:1])) == 0


def test_matched_pairs_is_the_mean_of_both_cross_entropies() -> None:
    a, b = (RNG.normal(size=(6, 4)) for _ in range(2))
    logits = 7.0 * (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    expected = -0.5 * (np.diag(log_softmax(logits, 1)).mean() + np.diag(log_softmax(logits, 0)).mean())
    np.testing.assert_allclose(maths.matched_pairs(torch.tensor(a), torch.tensor(b), 7.0), expected, rtol=1e-12)
