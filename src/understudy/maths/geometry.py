"""Clouds of points: which of them stand for the others, how far two clouds are apart, and what one looks like from a side."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy.maths.precision import in_float32


@torch.no_grad()
def farthest_points(points: Tensor, count: int) -> Tensor:
    """``count`` points far from each other: the one farthest from the mean, then again and again the one farthest from all chosen so far (PointNet++, 1706.02413,
    section 3.2): ``[B, N, 3]`` -> int64 ``[B, count]``. Of equals the first; with fewer points than ``count`` some occur again."""
    nearest = (points - points.mean(1, keepdim=True)).square().sum(-1)
    chosen = [nearest.argmax(1)]
    nearest = torch.full_like(nearest, torch.inf)
    for _ in range(count - 1):
        last = points.gather(1, chosen[-1][:, None, None].expand(-1, 1, points.shape[2]))
        nearest = torch.minimum(nearest, (points - last).square().sum(-1))
        chosen.append(nearest.argmax(1))
    return torch.stack(chosen, 1)


@in_float32
def chamfer(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean squared distance of every guessed point to the nearest true one, and the other way round, added (2203.06604, section 3.3): ``[..., P, 3]``, ``[..., Q, 3]``
    -> ``[...]``. ``truth`` receives no gradient."""
    squared = (guess.unsqueeze(-2) - truth.detach().unsqueeze(-3)).square().sum(-1)
    return squared.amin(-1).mean(-1) + squared.amin(-2).mean(-1)


@torch.no_grad()
def depth_image(points: Tensor, angle: float, vertical: int, size: int) -> Tensor:
    """What points within the unit sphere look like from the side at ``angle`` about the axis ``vertical`` (0, 1 or 2), without perspective: ``[B, N, 3]`` -> ``[B, size, size]``.

    A pixel is 0 where there is nothing, and otherwise what is nearest: from 1, at the front of the sphere, down to almost 0 at its back.
    """
    a, b = ((vertical + 1) % 3, (vertical + 2) % 3)
    turn = torch.tensor(angle, dtype=points.dtype, device=points.device)
    cosine, sine = turn.cos(), turn.sin()
    across, toward = cosine * points[..., a] - sine * points[..., b], sine * points[..., a] + cosine * points[..., b]
    column, row = (((one + 1) / 2 * size).long().clamp(0, size - 1) for one in (across, -points[..., vertical]))
    near = ((toward + 1) / 2).clamp(1e-3, 1.0)
    image = points.new_zeros(len(points), size * size)
    return image.scatter_reduce(1, row * size + column, near, "amax").view(-1, size, size)
