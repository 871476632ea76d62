"""``crops.crop`` in three Triton kernels: one that reads the canvas and writes the crop, and two that blur the crops that are blurred.

The reference is ``crops.crop``, to which it must be equal but for rounding. It has run in Triton's interpreter on a CPU (the tests) and not yet on a GPU:
``python -m bench.gpu`` compares both there, in values and in time, and until somebody has done that ``crops.FUSED`` stays off.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def crop(image: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, mirrored: Tensor, size: int, taps: int, colours: Tensor, kernel: Tensor | None,
         blurred: Tensor, solarised: Tensor) -> Tensor:  # fmt: skip
    """The crops of ``crops.crop``: boxes as there, ``taps`` a side, ``kernel`` (``[B, 2 radius + 1]``) of the ``blurred``; flags are bool ``[B]``."""
    batch, channels, side, _ = image.shape
    out = torch.empty(batch, channels, size, size, device=image.device)
    mean = image.flatten(1).sum(1, dtype=torch.int64).to(torch.float32) / (channels * side * side * 255.0)
    matrix = colours[:, :, :channels].contiguous()
    shift = (colours[:, :, channels] * mean[:, None]).contiguous()
    grid = (triton.cdiv(size * size, BLOCK), batch)
    flags = blurred.to(torch.int32) + 2 * solarised.to(torch.int32)
    boxes = torch.stack([top, left, height, width, mirrored.to(torch.float32)], 1).contiguous()
    _crop[grid](image.contiguous(), boxes, matrix, shift, flags, out, side, size, channels, taps, BLOCK)
    if kernel is not None:
        radius = kernel.shape[1] // 2
        between = torch.empty_like(out)
        _blur[(*grid, channels)](out, between, kernel.contiguous(), flags, size, channels, radius, 1, BLOCK)
        _blur[(*grid, channels)](between, out, kernel.contiguous(), flags, size, channels, radius, 0, BLOCK)
    return out


@triton.jit
def _crop(image, boxes, matrix, shift, flags, out, side, size, channels: tl.constexpr, taps: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """One sample's ``block`` pixels: a window of ``taps`` x ``taps`` pixels under triangles, the colour map, clamping, and inversion where nothing blurs."""
    sample = tl.program_id(1)
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < size * size
    row, column = place // size, place % size
    top, left = tl.load(boxes + sample * 5), tl.load(boxes + sample * 5 + 1)
    down, across = tl.load(boxes + sample * 5 + 2) / size, tl.load(boxes + sample * 5 + 3) / size
    column = tl.where(tl.load(boxes + sample * 5 + 4) > 0.5, size - 1 - column, column)
    y, x = top + (row.to(tl.float32) + 0.5) * down, left + (column.to(tl.float32) + 0.5) * across
    reach_y, reach_x = tl.maximum(down, 1.0), tl.maximum(across, 1.0)
    first_y, first_x = tl.floor(y - reach_y + 0.5), tl.floor(x - reach_x + 0.5)
    canvas = image + sample.to(tl.int64) * channels * side * side
    total = tl.zeros([block], tl.float32)
    red = tl.zeros([block], tl.float32)
    green = tl.zeros([block], tl.float32)
    blue = tl.zeros([block], tl.float32)
    for i in range(taps):
        weight_y = tl.maximum(1.0 - tl.abs(first_y + i + 0.5 - y) / reach_y, 0.0)
        line = tl.minimum(tl.maximum(first_y + i, 0.0), side - 1.0).to(tl.int32) * side
        for j in range(taps):
            weight = weight_y * tl.maximum(1.0 - tl.abs(first_x + j + 0.5 - x) / reach_x, 0.0)
            there = line + tl.minimum(tl.maximum(first_x + j, 0.0), side - 1.0).to(tl.int32)
            total += weight
            red += weight * tl.load(canvas + there, mask=inside, other=0).to(tl.float32)
            if channels == 3:
                green += weight * tl.load(canvas + side * side + there, mask=inside, other=0).to(tl.float32)
                blue += weight * tl.load(canvas + 2 * side * side + there, mask=inside, other=0).to(tl.float32)
    scale = 1.0 / (255.0 * total)
    red, green, blue = red * scale, green * scale, blue * scale
    inverted = tl.load(flags + sample) == 2
    for c in tl.static_range(channels):
        own = matrix + (sample * channels + c) * channels
        value = tl.load(own) * red + tl.load(shift + sample * channels + c)
        if channels == 3:
            value += tl.load(own + 1) * green + tl.load(own + 2) * blue
        value = tl.minimum(tl.maximum(value, 0.0), 1.0)
        value = tl.where(inverted & (value >= 128.0 / 255.0), 1.0 - value, value)
        tl.store(out + (sample.to(tl.int64) * channels + c) * size * size + place, value, mask=inside)


@triton.jit
def _blur(source, target, kernel, flags, size, channels: tl.constexpr, radius: tl.constexpr, horizontal: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """Along one direction of one channel of one sample, borders mirrored; clamping and inversion come with the second, vertical one."""
    sample, channel = tl.program_id(1), tl.program_id(2)
    flag = tl.load(flags + sample)
    if flag % 2 == 1:
        place = tl.program_id(0) * block + tl.arange(0, block)
        inside = place < size * size
        row, column = place // size, place % size
        plane = (sample.to(tl.int64) * channels + channel) * size * size
        value = tl.zeros([block], tl.float32)
        for k in range(2 * radius + 1):
            moved = tl.abs((column if horizontal else row) + k - radius)
            moved = size - 1 - tl.abs(size - 1 - moved)
            there = row * size + moved if horizontal else moved * size + column
            value += tl.load(kernel + sample * (2 * radius + 1) + k) * tl.load(source + plane + there, mask=inside, other=0.0)
        if not horizontal:
            value = tl.minimum(tl.maximum(value, 0.0), 1.0)
            value = tl.where((flag == 3) & (value >= 128.0 / 255.0), 1.0 - value, value)
        tl.store(target + plane + place, value, mask=inside)
