"""Resized crops of a batch of canvases with everything that follows them, in few passes over memory.

Resizing is separable, and a row of the result is a weighted sum of rows of the canvas: exactly what ``embedding_bag`` computes, which every build of
PyTorch has and which is as fast as memory there. A map of the colours is a weighted sum of whole channels, a blur another sum of rows; between the two
directions lies a transposition. Samples go through in blocks that stay in the processor's cache.

Every sum runs over one sample's rows in their order and every other operation is a single correctly rounded one, so a sample's pixels are the same
bits in any batch, in any block and on any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import keyed

BLOCK = 1 << 18
"""Elements of a canvas or a view that go through together on one thread of a CPU: a megabyte of float32, which a cache holds."""
SHARED = 1 << 20
"""Elements that make an operation worth sharing out over PyTorch's threads."""
FUSED = False
"""Whether crops on a GPU are left to the kernels of ``crops_triton``, which nobody has run on one yet."""


@dataclass(frozen=True)
class Boxes:
    """What part of its canvas each crop shows, float32 ``[B]`` in pixels of the canvas, and whether it is mirrored, bool ``[B]``."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


@dataclass(frozen=True)
class Blur:
    """Which crops are blurred, bool ``[B]``, and with what standard deviation in pixels of the view, ``[B]``; the kernel spans ``radius`` pixels a side."""

    chosen: Tensor
    sigma: Tensor
    radius: int


def crop(
    image: Tensor, boxes: Boxes, longest: float, size: int, colours: Tensor | None = None, blur: Blur | None = None, solarised: Tensor | None = None
) -> Tensor:
    """Crops of uint8 ``[B, C, S, S]`` as float32 ``[B, C, size, size]`` in [0, 1].

    In this order: bilinear resizing, antialiased by a wider triangle where the box is larger than the view (the filter of Pillow and torchvision; pixels
    around the box are seen, those at the canvas's borders repeated), ``colours`` (``[B, C, C + 1]``: a matrix, and what is added of the canvas's mean), clamping,
    ``blur`` with mirrored borders, and inversion of bytes from 128 on where ``solarised`` (bool ``[B]``). No side of a box may exceed ``longest`` pixels
    of the canvas.
    """
    batch, channels, side = image.shape[:3]
    taps = math.ceil(2.0 * max(1.0, longest / size) - 1e-4)
    kernel = None if blur is None or blur.radius >= size else _gaussian(blur)
    if FUSED and image.is_cuda:
        return fused(image, boxes, size, taps, colours, None if blur is None else blur.chosen, kernel, solarised)
    out = torch.empty(batch, channels, size, size, device=image.device)
    near = _near(image)
    blurs = kernel is not None and (blur.chosen.tolist() if near else [True])  # type: ignore[union-attr]
    each = channels * side * max(side, size)

    def work(part: slice) -> None:
        pixels = _resized(image[part], (down[part], weights[part]), (across[0][part], across[1][part]), None if colours is None else colours[part])
        blurry = blurs and any(blurs[part])
        pixels = _blurred(pixels.clamp_(0.0, 1.0), kernel[part], channels) if blurry else _turned(pixels)  # type: ignore[index]
        torch.clamp(pixels.view(-1, channels, size, size), 0.0, 1.0, out=out[part])

    with _threads_for(batch * each) if near else nullcontext(False) as shared:
        down, weights = _taps(boxes.top, boxes.height, side, size, taps)
        weights = weights / 255.0
        across = _taps(boxes.left, boxes.width, side, size, taps, boxes.mirrored)
        block = max(1, (SHARED if shared else BLOCK) // each) if near else max(batch, 1)
        for start in range(0, batch, block):
            work(slice(start, start + block))
        if solarised is not None:
            for one in solarised.nonzero().flatten().split(1) if near else (slice(None),):
                seen = out[one]
                out[one] = torch.where((seen < 128 / 255) | ~solarised[one, None, None, None], seen, 1.0 - seen)
    return out


def fused(
    image: Tensor, boxes: Boxes, size: int, taps: int, colours: Tensor | None, blurred: Tensor | None, kernel: Tensor | None, solarised: Tensor | None
) -> Tensor:
    """The same by Triton kernels: for GPUs, equal but for rounding."""
    from understudy.data.modalities import crops_triton

    batch, channels = image.shape[:2]
    never = torch.zeros(batch, dtype=torch.bool, device=image.device)
    same = torch.eye(channels, channels + 1, device=image.device).expand(batch, -1, -1)
    return crops_triton.crop(
        image, boxes.top, boxes.left, boxes.height, boxes.width, boxes.mirrored, size, taps, same if colours is None else colours, kernel,
        never if kernel is None or blurred is None else blurred, never if solarised is None else solarised,
    )  # fmt: skip


def _near(image: Tensor) -> bool:
    """Whether to go by blocks that fit in a cache and to look at flags before working: elsewhere that would be many small launches, and waiting."""
    return image.device.type == "cpu"


@contextmanager
def _threads_for(elements: int) -> Iterator[bool]:
    """One thread for a small batch: what it asks of each operation is too little to share out, above all beside other processes. Gives whether there are more."""
    _keep_freed_memory()
    threads = torch.get_num_threads()
    shared = threads > 1 and elements >= 2 * SHARED
    torch.set_num_threads(threads if shared else 1)
    try:
        yield shared
    finally:
        torch.set_num_threads(threads)


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep what a step frees, which otherwise goes back to the system and is fetched page by page again: half of the time of small crops.

    glibc takes the largest piece that it has seen freed, up to 32 MB, for the size from which it no longer hands memory out again by itself; this shows
    it a large one, of which no page is ever touched. Elsewhere it does nothing.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def _taps(start: Tensor, length: Tensor, side: int, size: int, taps: int, mirrored: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Which of ``side`` pixels in a line each of ``size`` pixels is the weighted sum of: int32 and float32, both ``[n, size, taps]``."""
    scale = (length / size)[:, None]
    reach = scale.clamp_min(1.0)
    centre = (torch.arange(size, device=start.device) + 0.5) * scale + start[:, None]
    if mirrored is not None:
        centre = torch.where(mirrored[:, None], centre.flip(1), centre)
    place = torch.floor(centre - reach + 0.5)[:, :, None] + torch.arange(taps, device=start.device)
    weight = (1.0 - (place + 0.5 - centre[:, :, None]).abs() / reach[:, :, None]).clamp_min(0.0)
    return place.clamp(0, side - 1).to(torch.int32), weight / weight.cumsum(2)[:, :, -1:]  # a cumulative sum has but one order


def _resized(image: Tensor, down: tuple[Tensor, Tensor], across: tuple[Tensor, Tensor], colours: Tensor | None) -> Tensor:
    """Both directions, from bytes to [0, 1], and the colours between them: ``[n, S', C S'']``, the second direction last."""
    (n, channels, side), size = image.shape[:3], down[0].shape[1]
    table = image.flatten(0, 2).to(torch.float32)
    first = torch.arange(n * channels, dtype=torch.int32, device=image.device).view(n, channels, 1, 1)
    rows = _sums(table, first * side + down[0][:, None], down[1][:, None].expand(-1, channels, -1, -1))
    if colours is not None:
        lines = table.sum(1).view(n, -1).to(torch.float64)  # sums of bytes below 2^24 are exact, whatever their order
        mean = (lines.sum(1, keepdim=True) / (channels * side * side * 255)).to(torch.float32)
        others = first.view(n, 1, 1, channels) * size + torch.arange(size, dtype=torch.int32, device=image.device)[:, None]
        mixed = _sums(rows.flatten(0, 2), others.expand(-1, channels, -1, -1), colours[:, :, None, :-1].expand(-1, -1, size, -1))
        rows = mixed.view(n, channels, -1).add_((colours[:, :, -1] * mean)[:, :, None])
    columns = _turned(rows.view(n, channels * size, side)).flatten(0, 1)
    return _sums(columns, first[:, 0] // channels * side + across[0], across[1])


def _turned(x: Tensor) -> Tensor:
    """``[n, a, b]`` as ``[n, b, a]``, contiguous; a single matrix goes tile by tile."""
    return x[0].t().contiguous().unsqueeze(0) if len(x) == 1 else x.transpose(1, 2).contiguous()


def _sums(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of ``table`` (``[N, L]``): ``[..., L]`` for ``index`` and ``weights`` of ``[..., k]``."""
    return F.embedding_bag(index.flatten(0, -2), table, mode="sum", per_sample_weights=weights.flatten(0, -2)).unflatten(0, index.shape[:-1])


def _gaussian(blur: Blur) -> Tensor:
    """Kernels ``[B, 2 radius + 1]``; those of crops that are not chosen leave everything as it is."""
    distance = torch.arange(-blur.radius, blur.radius + 1, dtype=torch.float64, device=blur.sigma.device)
    weights = keyed.exp(distance * distance / (blur.sigma.to(torch.float64) ** 2 * -2.0).unsqueeze(1))
    weights = weights / weights.cumsum(1)[:, -1:]
    return torch.where(blur.chosen[:, None], weights, (distance == 0).to(torch.float64)).to(torch.float32)


def _blurred(pixels: Tensor, kernel: Tensor, channels: int) -> Tensor:
    """``[n, s, C s]`` as ``_resized`` leaves it, blurred along both directions and turned: ``[n C, s, s]``."""
    (n, size, _), radius = pixels.shape, kernel.shape[1] // 2
    place = torch.arange(size, device=pixels.device)[:, None] + torch.arange(-radius, radius + 1, device=pixels.device)
    place = (size - 1 - (size - 1 - place.abs()).abs()).to(torch.int32)  # both borders reflect
    first = torch.arange(n * channels, dtype=torch.int32, device=pixels.device)[:, None, None] * size
    pixels = _sums(pixels.flatten(0, 1), first[:n] + place, kernel[:, None].expand(-1, size, -1))
    weights = kernel[:, None, None].expand(-1, channels, size, -1).flatten(0, 1)
    return _sums(_turned(pixels).view(-1, size), first + place, weights)
