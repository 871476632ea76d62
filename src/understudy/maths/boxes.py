"""Boxes: how they move with a view, how two of them overlap, which of many stay, and how a map of answers learns them.

A box is its corners (left, top, right, bottom) in a square that spans [-1, 1] both ways, so that no formula knows pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy.maths.precision import in_float32


@in_float32
def hull(boxes: Tensor, place: Tensor) -> Tensor:
    """The upright boxes around ``boxes`` ``[B, N, 4]`` after (x, y) = ``place`` (X, Y, 1), ``[B, 2, 3]``: ``[B, N, 4]``.

    Boxes of one view are so carried to another: ``hull(boxes, between(theirs.place, other.place))``.
    """
    (x, y), (half_x, half_y) = ((part[..., 0], part[..., 1]) for part in _middle(boxes))
    centres, halves = [], []
    for row in place.unbind(1):
        a, b, c = (entry.unsqueeze(1) for entry in row.unbind(1))
        centres.append(a * x + (b * y + c))
        halves.append(a.abs() * half_x + b.abs() * half_y)
    centre, half = torch.stack(centres, 2), torch.stack(halves, 2)
    return torch.cat([centre - half, centre + half], 2)


def clipped_boxes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What of ``boxes`` ``[..., 4]`` lies in the square, and which share of their areas that is, ``[...]``; 0 of a box without area."""
    inside = boxes.clamp(-1.0, 1.0)
    return inside, _area(inside) / _area(boxes).clamp_min(1e-12)


@in_float32
def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each of ``a`` ``[..., N, 4]`` with each of ``b`` ``[..., M, 4]``: ``[..., N, M]``; 0 where neither has an area."""
    first, second = a.unsqueeze(-2), b.unsqueeze(-3)
    both = _area(torch.cat([torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])], -1))
    return both / (_area(first) + _area(second) - both).clamp_min(1e-12)


@in_float32
def giou(guess: Tensor, truth: Tensor) -> Tensor:
    """Generalised intersection over union of pairs, in [-1, 1] (1902.09630, algorithm 1): IoU less the share of the box around both that neither covers. ``[..., 4]`` twice -> ``[...]``."""
    low, high = torch.minimum(guess, truth), torch.maximum(guess, truth)
    both = _area(torch.cat([high[..., :2], low[..., 2:]], -1))
    either = _area(guess) + _area(truth) - both
    around = _area(torch.cat([low[..., :2], high[..., 2:]], -1)).clamp_min(1e-12)
    return both / either.clamp_min(1e-12) - (around - either) / around


@in_float32
def focal(student_logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """alpha_t |y - p|^gamma times the binary cross-entropy of every answer (1708.02002, equation 5; for y between 0 and 1 the factor of 2006.04388, equation 4), p a sigmoid."""
    target = target.detach()
    loss = F.binary_cross_entropy_with_logits(student_logits, target, reduction="none")
    return (alpha * target + (1.0 - alpha) * (1.0 - target)) * (target - student_logits.sigmoid()).abs() ** gamma * loss


@torch.no_grad()
def kept_boxes(boxes: Tensor, scores: Tensor, classes: Tensor, overlap: float) -> Tensor:
    """Non-maximum suppression of boxes sorted by falling ``scores``: bool ``[B, K]``, false where a kept box of a higher score and the same class has a larger IoU than ``overlap``.

    ``[B, K, 4]``, ``[B, K]``, ``[B, K]``. All samples at once, a place of the order after the other; nothing is read back from the device. A score of 0 is no box.
    """
    same = (classes.unsqueeze(2) == classes.unsqueeze(1)) & (iou(boxes, boxes) > overlap)
    keep = scores > 0
    for place in range(1, boxes.shape[1]):
        keep[:, place] &= ~(same[:, place, :place] & keep[:, :place]).any(1)
    return keep


@torch.no_grad()
def assigned_boxes(boxes: Tensor, real: Tensor, places: Tensor, cell: float, radius: float = 1.5) -> Tensor:
    """Which box each place of a map answers for: the smallest one in whose centre it lies, -1 for none. ``[B, N, 4]``, bool ``[B, N]``, ``[L, 2]`` -> int64 ``[B, L]``.

    The centre is a box of ``radius`` cells around the middle, within the box (FCOS with centre sampling, 1904.01355v5, table 8); ``cell``: the side of what one place stands for.
    A box smaller than a cell has the place nearest to its middle.
    """
    middle, half = _middle(boxes)
    reach = half.clamp_max(radius * cell).clamp_min(0.5 * cell)
    across, down = (((places[:, axis] - middle[..., axis, None]).abs() <= reach[..., axis, None]) for axis in (0, 1))
    inside = across & down & real.unsqueeze(2)
    least, which = (4.0 * half.prod(2)).unsqueeze(2).where(inside, torch.inf).min(1)
    return which.where(least < torch.inf, -1)


@torch.no_grad()
@in_float32
def unsteadiness(answers: Tensor, boxes: Tensor, offsets: Tensor) -> Tensor:
    """How much the box that a map answers varies when it is asked for again beside the middle of ``boxes``: the deviation of each corner over the mean of width and height, averaged over
    the four (Soft Teacher, 2106.09018, equations 7 and 8). ``answers`` ``[B, 4, h, w]``, corners at every place; ``boxes`` ``[B, N, 4]``; ``offsets`` ``[B, N, J, 2]`` in widths and heights.
    """
    middle, half = _middle(boxes)
    asked = middle.unsqueeze(2) + offsets * (2.0 * half).unsqueeze(2)
    told = F.grid_sample(answers, asked, mode="bilinear", padding_mode="border", align_corners=False)  # [B, 4, N, J]
    return told.std(3).mean(1) / half.sum(2).clamp_min(1e-6)


def _middle(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Middles and half sides, ``[..., 2]`` each."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, (high - low) / 2


def _area(boxes: Tensor) -> Tensor:
    """Of boxes ``[..., 4]``: ``[...]``, 0 where one is inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
