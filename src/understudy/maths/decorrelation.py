"""Features of two views that agree one by one and in nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import collective
from understudy.maths.precision import in_float32


@in_float32
def cross_correlation(za: Tensor, zb: Tensor) -> Tensor:
    """Correlations over the batch of all processes between every feature of ``za`` and every feature of ``zb``: ``[B, D]`` twice -> ``[D, D]``.

    Features are standardised with the biased variance of that batch and 1e-5 (a BatchNorm without affine part). Raises ValueError for one sample.
    """
    za, zb = (F.batch_norm(collective.gather(z), None, None, training=True) for z in (za, zb))
    return za.T @ zb / len(za)


def barlow(za: Tensor, zb: Tensor, off_diagonal: float = 0.0051) -> Tensor:
    """sum_i (C_ii - 1)^2 + off_diagonal sum_{i != j} C_ij^2 (Barlow Twins, 2103.03230, eq. 1), coupled: ``[B, D]`` twice -> scalar."""
    c = cross_correlation(za, zb)
    error = (c - torch.eye(len(c), dtype=c.dtype, device=c.device)).square()
    return off_diagonal * error.sum() + (1 - off_diagonal) * error.diagonal().sum()


@in_float32
def whitened(z: Tensor, eps: float = 1e-4) -> Tensor:
    """Features with mean 0 and covariance I over these samples: ``[N, D]`` -> ``[N, D]`` (W-MSE, 2007.06346, section 3.1).

    (z - mean) W^T, W the inverse of the Cholesky factor of (1 - eps) covariance + eps I, N - 1 in the covariance. For N <= D only ``eps`` keeps the covariance
    from being singular, and nothing is whitened that deserves the name.
    """
    z = z - z.mean(0)
    covariance = (1 - eps) * z.T @ z / (len(z) - 1) + eps * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), z.T, upper=False).T


@in_float32
def whitening_mse(views: Sequence[Tensor], parts: Sequence[Tensor], eps: float = 1e-4, normalised: bool = True) -> Tensor:
    """W-MSE (2007.06346, eq. 6): mean over pairs of views and samples of the squared distance of whitened features, coupled: V times ``[B, D]`` -> scalar.

    Each view is whitened within each of ``parts``, int64 indices into the batch of all processes; ``normalised`` scales whitened vectors to length 1, so
    that a pair costs 2 - 2 cos.
    """
    gathered = [collective.gather(view) for view in views]
    losses = []
    for part in parts:
        z = [whitened(view[part], eps) for view in gathered]
        z = [F.normalize(view, dim=-1) for view in z] if normalised else z
        losses += [(a - b).square().sum(-1) for i, a in enumerate(z) for b in z[i + 1 :]]
    return torch.cat(losses).mean()
