"""Barlow Twins against numpy, and where it must vanish."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy import maths

RNG = np.random.default_rng(4)


def test_cross_correlation_and_barlow() -> None:
    za, zb = RNG.normal(size=(2, 16, 5)) * 3 + 1
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (za, zb))
    c = a.T @ b / 16
    np.testing.assert_allclose(maths.cross_correlation(torch.tensor(za), torch.tensor(zb)), c, atol=1e-12)
    off = c - np.diag(np.diag(c))
    want = ((np.diag(c) - 1) ** 2).sum() + 0.0051 * (off**2).sum()
    assert float(maths.barlow(torch.tensor(za), torch.tensor(zb))) == pytest.approx(want, rel=1e-10)


def test_identical_decorrelated_views_cost_nothing() -> None:
    hadamard = torch.tensor([[1, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)  # centred, orthogonal columns
    assert maths.barlow(hadamard, hadamard) < 1e-8


def test_collapse_costs_one_per_feature() -> None:
    assert float(maths.barlow(torch.ones(8, 5), torch.ones(8, 5))) == pytest.approx(5.0)


def whiten(z: np.ndarray, eps: float) -> np.ndarray:
    covariance = (1 - eps) * np.cov(z.T) + eps * np.eye(z.shape[1])
    return (z - z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(covariance)).T


def test_whitened() -> None:
    z = RNG.normal(size=(20, 4)) @ RNG.normal(size=(4, 4)) + 3
    found = maths.whitened(torch.tensor(z), 0.01).numpy()
    np.testing.assert_allclose(found, whiten(z, 0.01), atol=1e-10)
    exact = maths.whitened(torch.tensor(z), 0.0).numpy()
    np.testing.assert_allclose(np.cov(exact.T), np.eye(4), atol=1e-10)
    np.testing.assert_allclose(exact.mean(0), 0, atol=1e-12)


@pytest.mark.parametrize("normalised", [True, False])
def test_whitening_mse(normalised: bool) -> None:
    views = [RNG.normal(size=(24, 3)) for _ in range(3)]
    parts = [RNG.permutation(24)[:12], RNG.permutation(24)[:12]]
    losses = []
    for part in parts:
        w = [whiten(v[part], 0.0) for v in views]
        w = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in w] if normalised else w
        losses += [((w[i] - w[j]) ** 2).sum(1) for i in range(3) for j in range(i + 1, 3)]
    found = maths.whitening_mse([torch.tensor(v) for v in views], [torch.tensor(p) for p in parts], 0.0, normalised)
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-9)


def test_a_pair_of_equal_views_costs_nothing_and_one_constant_output_is_no_way_out() -> None:
    z = torch.tensor(RNG.normal(size=(16, 4)))
    assert float(maths.whitening_mse([z, z], [torch.arange(16)])) == pytest.approx(0.0, abs=1e-10)
    almost = [torch.ones(16, 4, dtype=torch.float64) + 1e-3 * torch.tensor(RNG.normal(size=(16, 4))) for _ in range(2)]
    assert float(maths.whitening_mse(almost, [torch.arange(16)], 0.0)) > 1.0  # without whitening this is 1e-6
