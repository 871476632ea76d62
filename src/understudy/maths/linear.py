"""Ridge regression in closed form, what becomes of it when it learns from itself, and principal components."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def ridge(features: Tensor, targets: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """The minimiser of sum_n |W x_n + b - t_n|^2 + penalty |W|^2: ``[N, D]``, ``[N, C]`` -> W ``[C, D]`` and b ``[C]``, in float64; b bears no penalty."""
    x, t = features.double(), targets.double()
    x_mean, t_mean = x.mean(0), t.mean(0)
    x = x - x_mean
    gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, x.T @ (t - t_mean)).T
    return weight, t_mean - weight @ x_mean


@torch.no_grad()
def best_label_share(truth: Tensor, by_labels: Tensor, by_teacher: Tensor) -> float:
    """The a for which a ``by_labels`` + (1 - a) ``by_teacher`` is nearest to ``truth``, by least squares: ``[M, C]`` three times -> any number.

    What a linear learner says is linear in its targets, so that the best weight of the ground truth in a generation of self-distillation has a closed form,
    here from validation (2102.13088, section 3.4). Where both say the same the weight does not matter, and is 1.
    """
    gap = (by_labels - by_teacher).double()
    size = gap.square().sum()
    return float((gap * (truth - by_teacher)).sum() / size) if size > 0 else 1.0


@torch.no_grad()
def principal(points: Tensor, components: int, whiten: bool = False) -> Tensor:
    """The first principal components of points ``[N, D]``, by falling variance, in the points' type: ``[N, components]``.

    With ``whiten`` each is divided by its standard deviation, taken as at least sqrt(1e-5) of the largest, so that directions without content stay small.
    """
    x = points.double()
    x = x - x.mean(0)
    variances, directions = torch.linalg.eigh(x.T @ x / len(x))
    variances, directions = variances.flip(0)[:components], directions.flip(1)[:, :components]
    scores = x @ directions
    if whiten:
        scores = scores / variances.clamp_min(1e-5 * variances[0]).clamp_min(torch.finfo(x.dtype).tiny).sqrt()
    return scores.to(points.dtype)
