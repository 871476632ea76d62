"""The built-in backbone of series: patches of each channel as tokens, the channels apart (PatchTST, arXiv 2211.14730)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.backbone import Features, check_mask, pooled_mean
from understudy.models.transformer import Transformer, attended, initialise, sinusoid

_FLATTEST = 1e-3
"""Variance that is added to that of a channel of a sample: one that hardly moves is not blown up."""
_SIDE_BY_SIDE = 16


class SeriesTransformer(Transformer):
    """One transformer for all channels: it sees the patches of one at a time, standardised by what is visible of that channel in that sample.

    What the standardisation takes away, the level and the spread, is told to every token through a map that begins at zero. Tokens are the patches of the first
    channel, then of the second. Pooled are the means of up to 16 channels side by side, or of more the mean of all. Hidden patches are never left out.
    """

    modality = "series"
    drops = False

    patch: int

    def __init__(self, channels: int, length: int, width: int = 64, depth: int = 3, heads: int = 4, patch: int | None = None, drop_path: float = 0.0):
        super().__init__(width, depth, heads, drop_path)
        self.channels, self.length = channels, length
        self.patch = patch = patch or max(1, -(-length // 16))
        self.width = width * channels if channels <= _SIDE_BY_SIDE else width
        self.enter = nn.Linear(patch, width)
        self.level = nn.Linear(2, width, bias=False)
        self.apply(initialise)
        nn.init.xavier_uniform_(self.enter.weight)
        nn.init.zeros_(self.level.weight)
        self.places = nn.Parameter(sinusoid(torch.arange(-(-length // patch)), width))

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """As of a transformer, all channels in one row ``[B, C T, D]``."""
        content, there = self._content(inputs, None)
        return content.flatten(1, 2), self.places.repeat(self.channels, 1), ~there.flatten(1)

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        content, there = self._content(inputs, masked)
        batch, channels, count, width = content.shape
        x = (content + self.places).flatten(0, 1)
        padding = ~there.flatten(0, 1)
        attend = attended(padding)
        for block in self.blocks:
            x = block(x, attend)
        pooled = self.norm(pooled_mean(x, padding)).view(batch, channels, width)
        pooled = pooled.flatten(1) if channels <= _SIDE_BY_SIDE else pooled.mean(1)
        return Features(pooled, self.norm(x).view(batch, channels * count, width), padding.view(batch, channels * count))

    def _content(self, inputs: Inputs, masked: Tensor | None) -> tuple[Tensor, Tensor]:
        """What stands in each patch ``[B, C, T, D]``, and where anything does, bool ``[B, C, T]``."""
        if masked is not None:
            check_mask(masked, self.positions(inputs))
        patches, mean, deviation, known = standardised(inputs, masked, self.patch)
        level = self.level(torch.cat([mean, deviation.log()], -1))
        content = self.enter(patches.masked_fill(~known, 0.0)) + level
        if masked is not None:
            content = torch.where(masked.view(*content.shape[:3], 1), self.mask.to(content.dtype) + level, content)
        return content, known.any(-1)

    def positions(self, inputs: Inputs) -> int:
        return self.channels * -(-inputs["series"].shape[2] // self.patch)


def standardised(inputs: Inputs, masked: Tensor | None, patch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The patches of each channel ``[B, C, T, P]``, less the mean and divided by the deviation ``[B, C, 1, 1]`` of what is visible of it; bool ``[B, C, T, P]``: what is there.

    What ``masked`` (bool ``[B, C T]``) hides takes no part in mean and deviation, or it could be told from them.
    """
    series = inputs["series"]
    batch, channels, length = series.shape
    count = -(-length // patch)
    patches = F.pad(series, (0, count * patch - length)).view(batch, channels, count, patch)
    steps = torch.arange(count * patch, device=series.device).view(count, patch)
    known = (steps < inputs["steps"].view(-1, 1, 1, 1)).expand_as(patches)
    seen = known if masked is None else known & ~masked.view(batch, channels, count, 1)
    number = seen.sum((2, 3), keepdim=True).clamp_min(1)
    mean = patches.masked_fill(~seen, 0.0).sum((2, 3), keepdim=True) / number
    variance = (patches - mean).square().masked_fill(~seen, 0.0).sum((2, 3), keepdim=True) / number
    deviation = (variance + _FLATTEST).sqrt()
    return (patches - mean) / deviation, mean, deviation, known


def hidden_patches(inputs: Inputs, masked: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """What a decoder has to say of each patch ``[B, C T, P]``, and which values of it are there, bool likewise."""
    patches, _, _, known = standardised(inputs, masked, patch)
    return patches.flatten(1, 2), known.flatten(1, 2)
