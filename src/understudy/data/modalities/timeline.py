"""What series and sounds have in common: values ``[B, C, L]`` along time, of which each sample has its own number of steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.masking import hide
from understudy.data.samples import Inputs


def middle(values: Tensor, length: int) -> tuple[Tensor, int]:
    """``[C, n]`` as ``[C, length]``: the middle where there is more, zeros after the end where there is less; and how many steps are there."""
    n = values.shape[1]
    start = max(0, (n - length) // 2)
    fitted = values.new_zeros(values.shape[0], length)
    fitted[:, : min(n, length)] = values[:, start : start + length]
    return fitted, min(n, length)


def collated(encoded: Sequence[Inputs]) -> Inputs:
    """Encoded samples of equal length as a raw batch."""
    return {name: torch.stack([e[name] for e in encoded]) for name in encoded[0]}


def there(steps: Tensor, length: int, patch: int = 1) -> Tensor:
    """Which steps (patches of ``patch`` steps) hold anything of the sample: bool ``[B, ceil(length / patch)]``; ``steps`` int64 ``[B]``."""
    return torch.arange(0, length, patch, device=steps.device) < steps.unsqueeze(1)


def shifted(values: Tensor, steps: Tensor, keys: Tensor, reach: int) -> Tensor:
    """Each sample moved in time by up to ``reach`` steps; the steps that this lays open repeat the first or the last."""
    moved = torch.arange(values.shape[2], device=values.device) - (keyed.integers(keys, 2 * reach + 1) - reach).unsqueeze(1)
    index = torch.minimum(moved.clamp_min(0), (steps - 1).clamp_min(0).unsqueeze(1))
    return blank(values.gather(2, index.unsqueeze(1).expand_as(values)), steps)


def spans(keys: Tensor, extent: Tensor, length: int, share: float) -> Tensor:
    """One span of up to ``share`` of the first ``extent`` (int64 ``[B]``) of ``length`` places, at a random place among these: bool ``[B, length]`` (SpecAugment, 1904.08779)."""
    u = keyed.uniform(keys, (2,))
    wide = (u[:, 0] * (extent * share + 1)).long()
    first = (u[:, 1] * (extent - wide + 1)).long()
    place = torch.arange(length, device=keys.device)
    return (place >= first.unsqueeze(1)) & (place < (first + wide).unsqueeze(1))


def blank(values: Tensor, steps: Tensor) -> Tensor:
    """Zeros behind the end of each sample."""
    return values.masked_fill(~there(steps, values.shape[2]).unsqueeze(1), 0.0)


def hidden(keys: Tensor, eligible: Tensor, ratio: float, span: int) -> Tensor:
    """``ratio`` of the ``eligible`` patches (bool ``[B, T]``) in runs of ``span``: bool ``[B, T]``."""
    if span == 1:
        return hide(keys, eligible, ratio)
    runs = eligible[:, ::span]
    return hide(keys, runs, ratio).repeat_interleave(span, 1)[:, : eligible.shape[1]] & eligible


def drawn(values: Tensor, steps: int, height: int = 48, width: int = 96) -> np.ndarray:
    """The curves of one sample ``[C, L]`` as a picture, uint8 ``[height, width]``, each channel in its own grey."""
    picture = np.zeros((height, width), np.uint8)
    curves = values[:, : max(1, steps)].detach().float().cpu().numpy()
    low, high = float(curves.min()), float(curves.max())
    columns = np.linspace(0, curves.shape[1] - 1, width).round().astype(int)
    rows = ((high - curves[:, columns]) / max(high - low, 1e-12) * (height - 1)).round().astype(int)
    for number, row in enumerate(rows):
        grey = 255 - 160 * number // max(1, len(rows))
        before = np.concatenate([row[:1], row[:-1]])
        for x, (a, b) in enumerate(zip(np.minimum(row, before), np.maximum(row, before), strict=True)):
            picture[a : b + 1, x] = grey
    return picture
