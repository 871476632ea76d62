"""Features as a normal distribution: its moments while samples pass, and how far two are apart."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy import collective
from understudy.maths.precision import in_float32


@in_float32
def passing_moments(mean: Tensor, covariance: Tensor, features: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Mean ``[D]`` and covariance ``[D, D]`` after ``features`` ``[B, D]`` have passed, each sample counting ``rate``; the gradient reaches the features.

    mean' = mean + d with d = rate sum_i (z_i - mean), covariance' = covariance + rate sum_i ((z_i - mean)(z_i - mean)^T - covariance) - d d^T (TTAC, 2206.02721,
    equation 6; OWTTT, 2308.09942). With a rate of one over all samples so far these are their moments.
    """
    away = features - mean
    moved = rate * away.sum(0)
    return mean + moved, covariance + rate * (away.T @ away - len(features) * covariance) - torch.outer(moved, moved)


@in_float32
def normal_divergence(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """KL(p || q) + KL(q || p) of two normal distributions over ``[D]``: a scalar, with gradients to all four. Logarithms of determinants cancel."""
    precision, other_precision = torch.linalg.inv(covariance), torch.linalg.inv(other_covariance)
    gap = other_mean - mean
    traces = (other_precision * covariance.T).sum() + (precision * other_covariance.T).sum()
    return 0.5 * (traces - 2 * len(mean) + gap @ (precision + other_precision) @ gap)


@torch.no_grad()
def frechet(features: Tensor, others: Tensor) -> Tensor:
    """Fréchet distance between two sets of features as normal distributions (FID, 1706.08500, section 2): ``[N, D]``, ``[M, D]`` -> scalar, in float64.

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)). It shrinks with N and M as they grow: compare sets of one size only.
    """
    a, b = features.double(), others.double()
    first, second = torch.cov(a.T).view(a.shape[1], -1), torch.cov(b.T).view(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    # C_1^(1/2) C_2 C_1^(1/2) has the eigenvalues of C_1 C_2, and is symmetric.
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    return (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross


@in_float32
def moments_distance(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """|mean of x - mean| + |variance of x - variance|, Euclidean, over the batch of all processes and all places: ``[B, C, ...]``, ``[C]`` twice -> scalar.

    How far what enters a batch normalisation is from what it has seen in training (DeepInversion, 1912.08795, equation 4). Coupled.
    """
    axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
    count = collective.world() * x.numel() / x.shape[1]
    own = collective.total(x.sum(axes)) / count
    spread = collective.total((x - own.view(shape)).square().sum(axes)) / count
    return (own - mean).norm() + (spread - variance).norm()
