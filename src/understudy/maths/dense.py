"""Answers at every pixel: how they are lost, how they move from one view of a canvas to another, and how they are counted.

A place ``[B, 2, 3]`` says where on its canvas a pixel of a view lies: (x, y) = place (X, Y, 1), both squares spanning [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.maths.precision import in_float32

UNLABELLED = 255
"""The class of a pixel without a label."""


@in_float32
def pixel_cross_entropy(student_logits: Tensor, classes: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the labelled pixels of every sample: ``[B, C, H, W]``, classes ``[B, H, W]`` (255: no label) -> ``[B]``; 0 where there is none."""
    known = classes != UNLABELLED
    losses = F.cross_entropy(student_logits, classes.long(), ignore_index=UNLABELLED, reduction="none", label_smoothing=smoothing)
    return losses.flatten(1).sum(1) / known.flatten(1).sum(1).clamp_min(1)


def between(seen: Tensor, known: Tensor) -> Tensor:
    """Where in the view at place ``known`` the pixels of the view at place ``seen`` lie: known^-1 seen, ``[B, 2, 3]`` each.

    What a teacher says of one view is so carried to another: ``carried(said, between(student.place, teacher.place), size)``.
    """
    turned = torch.linalg.solve(known[:, :, :2], torch.cat([seen[:, :, :2], seen[:, :, 2:] - known[:, :, 2:]], 2))
    assert isinstance(turned, Tensor), "one system each"
    return turned


def carried(maps: Tensor, place: Tensor, size: int, fill: float) -> Tensor:
    """The nearest pixel of ``maps`` ``[B, H, W]`` or ``[B, C, H, W]`` at every ``place`` of a square of ``size`` pixels, ``fill`` outside: ``[B, (C,) size, size]``."""
    steps = (torch.arange(size, dtype=torch.float32, device=maps.device) * 2.0 + 1.0) / size - 1.0
    x, y = (row[:, :1, None] * steps + (row[:, 1:2] * steps + row[:, 2:3]).unsqueeze(2) for row in place.unbind(1))
    height, width = maps.shape[-2:]
    column, row = (((at + 1.0) * (0.5 * many)).floor().long() for at, many in ((x, width), (y, height)))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = (row * width + column).where(inside, 0).flatten(1)
    flat = maps.unsqueeze(1) if maps.ndim == 3 else maps
    found = flat.flatten(2).gather(2, index.unsqueeze(1).expand(-1, flat.shape[1], -1)).unflatten(2, (size, size))
    found = found.masked_fill(~inside.unsqueeze(1), fill)
    return found.squeeze(1) if maps.ndim == 3 else found


def overlaps(answers: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Intersection and union of every class in every sample, in pixels: ``[B, H, W]`` twice -> int64 ``[B, count]`` twice. Unlabelled pixels (255) do not count."""
    known, batch = classes != UNLABELLED, len(classes)
    place = torch.arange(batch, device=classes.device)[:, None, None] * count

    def counted(which: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((which.long() + place)[where], minlength=batch * count).view(batch, count)

    both = counted(classes, known & (answers == classes))
    return both, counted(classes, known) + counted(answers, known) - both


def mean_overlap(intersection: Tensor, union: Tensor) -> Tensor:
    """Mean over the classes that occur of intersection over union, of counts ``[..., C]`` -> float64 ``[...]``; 0 where no class occurs."""
    occurs = union > 0
    shares = torch.where(occurs, intersection.double() / union.clamp_min(1), 0.0)
    return shares.sum(-1) / occurs.sum(-1).clamp_min(1)
