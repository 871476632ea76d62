"""Scenes composed of real images: digits and clothes at known places of cluttered canvases, so that masks are exact."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import keyed, maths
from understudy.data.modalities.detection import DetectionModality
from understudy.data.modalities.segmentation import SegmentationModality
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError

VISIBLE = 64
"""Bytes from which a pixel belongs to an object and not to what is behind it."""


def scenes(things: Samples, count: int, seed: int = 0, size: int = 32, objects: int = 2, distractors: int = 3, least: int = 12, most: int = 16) -> Samples:
    """``count`` grey canvases of ``size`` pixels with ``objects`` random ones of the small square images ``things``, between ``least`` and ``most`` pixels large, over pieces of others.

    Classes are background and those of ``things``; a pixel belongs to an object where that is visible. All are labelled. Hold ``things`` out before, so that
    training and test scenes are made of different ones. The idea is that of cluttered MNIST (1406.6247, section 4.1).
    """
    small = things.encoded.raw(things.positions)["image"]
    if small.shape[1] != 1 or not 4 <= least <= most <= size:
        raise UserError(f"scenes are composed of grey images of 4 to {size} pixels; got {small.shape[1]} channels, and from {least} to {most} pixels")
    keys = torch.as_tensor(keyed.fold(keyed.fold(seed, "scenes"), torch.arange(count)))
    canvas, mask = torch.zeros(count, size, size), torch.zeros(count, size, size, dtype=torch.uint8)
    for number in range(distractors):
        key = keyed.fold(keys, "piece", number)
        drawn = keyed.integers(keyed.fold(key, "of"), len(things))
        _lay(canvas, None, small[drawn], torch.zeros(count), torch.full((count,), most // 2), keyed.fold(key, "to"), 0.5)
    for number in range(objects):
        key = keyed.fold(keys, "object", number)
        drawn = keyed.integers(keyed.fold(key, "of"), len(things))
        side = least + keyed.integers(keyed.fold(key, "side"), most - least + 1)
        _lay(canvas, mask, small[drawn], things.labels[drawn] + 1, side, keyed.fold(key, "to"))
    ids = tuple(f"scenes-{seed}/{i:05d}" for i in range(count))
    encoded = InMemory({"image": canvas.round().to(torch.uint8).unsqueeze(1), "mask": mask})
    return Samples(SegmentationModality(size, 1, flip=False), encoded, ids, torch.zeros(count, dtype=torch.int64), ("background", *things.classes))


def boxed_scenes(
    things: Samples, behind: Samples, count: int, seed: int = 0, size: int = 48, objects: int = 3, least: int = 12, most: int = 20, shade: float = 0.5
) -> Samples:
    """``count`` grey canvases of ``size`` pixels with one to ``objects`` random ones of the small grey images ``things``, ``least`` to ``most`` pixels large, before images from
    ``behind`` that are ``shade`` times as bright; with the boxes around what of each object is visible, and its class.

    Of several random places an object takes the one where it hides least of those before it. Hold ``things`` and ``behind`` out before.
    """
    small, drawn = things.encoded.raw(things.positions)["image"], behind.encoded.raw(behind.positions)["image"]
    if small.shape[1] != 1 or not 4 <= least <= most <= size:
        raise UserError(f"scenes are composed of grey images of 4 to {size} pixels; got {small.shape[1]} channels, and from {least} to {most} pixels")
    keys = torch.as_tensor(keyed.fold(keyed.fold(seed, "boxed scenes"), torch.arange(count)))
    texture = drawn[keyed.integers(keyed.fold(keys, "behind"), len(drawn))].float().mean(1, keepdim=True)
    canvas = F.interpolate(texture, size=(size, size), mode="bilinear", align_corners=False)[:, 0] * shade
    boxes = torch.tensor([-1.0, -1.0, -1.0, -1.0, -1.0]).repeat(count, objects, 1)
    number_of = 1 + keyed.integers(keyed.fold(keys, "objects"), objects)
    for number in range(objects):
        key = keyed.fold(keys, "object", number)
        which = keyed.integers(keyed.fold(key, "of"), len(things))
        side = least + keyed.integers(keyed.fold(key, "side"), most - least + 1)
        corners = (keyed.uniform(keyed.fold(key, "to"), (8, 2)) * (size - side + 1)[:, None, None]).floor()
        tried = torch.cat([corners, corners + side[:, None, None]], 2)[:, :, [1, 0, 3, 2]] / size * 2.0 - 1.0
        corner = corners[torch.arange(count), maths.iou(tried, boxes[..., :4]).sum(2).argmin(1)]
        shown, there = _over(size, small[which], corner, side), number < number_of
        visible = (shown > VISIBLE) & there[:, None, None]
        canvas = torch.where(visible, torch.maximum(canvas, shown), canvas)
        box = torch.stack([_span(visible.any(1)), _span(visible.any(2))], 2).flatten(1)
        seen = visible.flatten(1).any(1)
        boxes[seen, number] = torch.cat([box, things.labels[which, None].float()], 1)[seen]
    ids = tuple(f"boxed-scenes-{seed}/{i:05d}" for i in range(count))
    encoded = InMemory({"image": canvas.round().clamp(0, 255).to(torch.uint8).unsqueeze(1), "boxes": boxes})
    return Samples(DetectionModality(size, 1, flip=False), encoded, ids, torch.zeros(count, dtype=torch.int64), things.classes)


def _span(shown: Tensor) -> Tensor:
    """From the first to after the last true place of each row, the whole being [-1, 1]: bool ``[B, S]`` -> ``[B, 2]``."""
    places, size = shown.int(), shown.shape[1]
    return torch.stack([places.argmax(1), size - places.flip(1).argmax(1)], 1) / size * 2.0 - 1.0


def few_drawn(samples: Samples, count: int, key: int) -> Samples:
    """The same scenes, of which only ``count``, drawn by ``key`` and the ids, still have their masks or boxes. The caller keeps the truth in ``samples``."""
    order = keyed.bits(keyed.fold(keyed.fold(key, "few drawn"), samples.keys)).argsort(stable=True)
    known = torch.zeros(len(samples), dtype=torch.bool)
    known[order[:count]] = True
    raw = samples.encoded.raw(samples.positions)
    drawn, none = ("mask", maths.UNLABELLED) if "mask" in raw else ("boxes", -1)
    hidden = InMemory({**raw, drawn: raw[drawn].masked_fill(~known[:, None, None], none)})
    return Samples(samples.modality, hidden, samples.ids, known.long() - 1, samples.classes)


def _lay(canvas: Tensor, mask: Tensor | None, small: Tensor, labels: Tensor, side: Tensor, keys: keyed.Key, part: float = 1.0) -> None:
    """Lay the upper left ``part`` of each small image, ``side`` pixels large, over its canvas at a random place; the brighter pixel stays."""
    size = canvas.shape[-1]
    corner = (keyed.uniform(keys, (2,)) * (size - side + 1).unsqueeze(1)).floor()
    shown = _over(size, small, corner, side, part)
    if mask is not None:
        mine = (shown > VISIBLE) & (shown >= canvas)
        mask[mine] = labels[:, None, None].expand_as(mask)[mine].to(torch.uint8)
    canvas.copy_(torch.maximum(canvas, shown))


def _over(size: int, small: Tensor, corner: Tensor, side: Tensor, part: float = 1.0) -> Tensor:
    """The upper left ``part`` of each small image, ``side`` pixels large with its upper left corner at ``corner`` (row, column) of an empty canvas."""
    # Where in the small image, from -1 to 1, each pixel of the canvas would lie.
    at = (torch.arange(size) + 0.5 - corner.unsqueeze(2)) / side[:, None, None] * 2.0 - 1.0
    grid = torch.stack(torch.broadcast_tensors(at[:, 1, None, :], at[:, 0, :, None]), 3)
    inside = (grid.abs() <= 1).all(3)
    return F.grid_sample(small.float(), (grid + 1.0) * part - 1.0, mode="bilinear", padding_mode="border", align_corners=False)[:, 0] * inside
