"""Passing moments against numpy's, the divergence of two normal distributions against torch's own."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch.distributions import MultivariateNormal, kl_divergence

from understudy import maths

RNG = np.random.default_rng(4)


def test_moments_of_everything_so_far() -> None:
    parts = [RNG.normal(size=(n, 3)) @ np.diag([1.0, 2.0, 0.5]) + 1.5 for n in (5, 8, 1)]
    mean, covariance, n = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64), 0
    for part in parts:
        n += len(part)
        mean, covariance = maths.passing_moments(mean, covariance, torch.tensor(part), 1 / n)
    everything = np.concatenate(parts)
    np.testing.assert_allclose(mean, everything.mean(0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(everything.T, bias=True), atol=1e-12)


def test_moments_forget_at_a_fixed_rate_and_pass_the_gradient_on() -> None:
    features = torch.tensor(RNG.normal(size=(4, 2)), requires_grad=True)
    mean, covariance = maths.passing_moments(torch.ones(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), features, 0.1)
    np.testing.assert_allclose(mean.detach(), 1 + 0.1 * (features.detach().numpy() - 1).sum(0))
    (mean.sum() + covariance.trace()).backward()
    assert bool((features.grad != 0).all())


def test_divergence_is_both_kl_together() -> None:
    a, b = (torch.tensor(RNG.normal(size=(4, 4))) for _ in range(2))
    one, other = a @ a.T + torch.eye(4, dtype=torch.float64), b @ b.T + 0.5 * torch.eye(4, dtype=torch.float64)
    mean, other_mean = torch.tensor(RNG.normal(size=4)), torch.tensor(RNG.normal(size=4))
    p, q = MultivariateNormal(mean, one), MultivariateNormal(other_mean, other)
    torch.testing.assert_close(maths.normal_divergence(mean, one, other_mean, other), kl_divergence(p, q) + kl_divergence(q, p))
    assert abs(float(maths.normal_divergence(mean, one, mean, one))) < 1e-9


def test_frechet_distance_by_the_matrix_root() -> None:
    a, b = RNG.normal(size=(200, 4)) @ RNG.normal(size=(4, 4)), RNG.normal(size=(150, 4)) + 0.5
    first, second = np.cov(a.T), np.cov(b.T)
    root = sqrtm(first @ second).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    np.testing.assert_allclose(maths.frechet(torch.tensor(a), torch.tensor(b)), expected, rtol=1e-9)
    assert abs(float(maths.frechet(torch.tensor(a), torch.tensor(a)))) < 1e-9
    np.testing.assert_allclose(maths.frechet(torch.tensor(a), torch.tensor(a + 2.0)), 16.0, rtol=1e-9)


def test_moments_distance() -> None:
    x, mean, variance = RNG.normal(size=(6, 3, 2, 2)), RNG.normal(size=3), RNG.uniform(1, 2, size=3)
    want = np.linalg.norm(x.mean((0, 2, 3)) - mean) + np.linalg.norm(x.var((0, 2, 3)) - variance)
    found = maths.moments_distance(torch.tensor(x), torch.tensor(mean), torch.tensor(variance))
    np.testing.assert_allclose(float(found), want, rtol=1e-12)
    flat = torch.tensor(x[:, :, 0, 0])
    np.testing.assert_allclose(float(maths.moments_distance(flat, flat.mean(0), flat.var(0, correction=0))), 0, atol=1e-12)
