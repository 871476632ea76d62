"""The trunk that the built-in image, text and table transformers share: pre-norm blocks (arXiv 2002.04745)."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.errors import UserError
from understudy.models.backbone import Backbone, Features, check_mask, pooled_mean, take, visible


class Memory:
    """Keys and values of the positions that a layer has read so far."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Remember more positions ``[B, heads, n, d]``; returns all of them."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Multi-head self-attention. ``qkv`` gives ``[B, T, 3 * D]``: queries, keys, values, each with its heads side by side."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise UserError(f"a transformer of width {width} can not be split into {heads} heads; choose heads that divide the width")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, attend: Tensor | None, memory: Memory | None = None) -> Tensor:
        batch, length, width = x.shape
        queries, keys, values = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if memory is not None:
            keys, values = memory.extend(keys, values)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attend)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class DropPath(nn.Module):
    """Leaves a sample's branch out with probability ``rate`` in training (stochastic depth, arXiv 1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(len(x), 1, 1).bernoulli_(keep) / keep


class Block(nn.Module):
    def __init__(self, width: int, heads: int, drop_path: float = 0.0):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, attend: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        x = x + self.drop_path(self.attention(self.attention_norm(x), attend, memory))
        return x + self.drop_path(self.mlp(self.mlp_norm(x)))


def attended(padding: Tensor | None) -> Tensor | None:
    """The attention mask bool ``[B, 1, 1, T]``, true where to look. A sample of nothing but padding looks at its first position: no softmax is empty."""
    if padding is None:
        return None
    look = ~padding
    look[:, :1] |= ~look.any(1, keepdim=True)
    return look[:, None, None, :]


def initialise(module: nn.Module) -> None:
    """Truncated normals of 0.02 and zero biases, as ViT and BERT have them; for ``Module.apply``."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def sinusoid(positions: Tensor, width: int) -> Tensor:
    """Sine and cosine codes ``[n, width]`` of positions ``[n]`` (arXiv 1706.03762, section 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device) * (-math.log(10_000.0) / width))
    angles = positions.float().unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def sinusoid_grid(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """Codes ``[height * width, channels]`` of a grid, row by row: half of the channels for the row, the rest for the column (MAE)."""
    rows, columns = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    half = channels // 2
    return torch.cat([sinusoid(rows.flatten(), half), sinusoid(columns.flatten(), channels - half)], dim=1)


class Transformer(Backbone):
    """A token backbone. Pooled is the mean of the last tokens that are not padding (and not dropped), normalised after it: long tokens then count for more,
    and a few labels teach much faster than with the mean of normalised tokens (``docs/decisions.md``).

    ``registers``: learned tokens that take part in every block and come out nowhere (arXiv 2309.16588)."""

    drops = True

    def __init__(self, width: int, depth: int, heads: int, drop_path: float = 0.0, registers: int = 0):
        super().__init__()
        self.width = self.token_width = width
        self.mask = nn.Parameter(torch.empty(width))
        self.registers = nn.Parameter(nn.init.normal_(torch.empty(registers, width), std=0.02)) if registers else None
        self.blocks = nn.ModuleList(Block(width, heads, drop_path * i / max(1, depth - 1)) for i in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.trunc_normal_(self.mask, std=0.02)

    @abstractmethod
    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None]:
        """What stands at each position ``[B, T, D]``, a code of the position itself ``[T, D]``, and the padding bool ``[B, T]`` or None."""

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        content, places, padding = self.embed(inputs)
        if masked is not None:
            check_mask(masked, content.shape[1])
        if masked is not None and not drop:
            content = torch.where(masked.unsqueeze(-1), self.mask.to(content.dtype), content)
        x = content + places
        if masked is not None and drop:
            index, padding = visible(masked, padding)
            x = take(x, index)
            x = x if padding is None else x.masked_fill(padding.unsqueeze(-1), 0)  # what fills up is a hidden position
        x = self.through(x, padding)
        return Features(self.norm(pooled_mean(x, padding)), self.norm(x), padding)

    def through(self, x: Tensor, padding: Tensor | None, registers: bool = False) -> Tensor:
        """All blocks, with the registers in front of ``x`` ``[B, T, D]``; afterwards they are taken off again, unless ``registers``."""
        count = 0
        if self.registers is not None:
            count = len(self.registers)
            x = torch.cat([self.registers.to(x.dtype).expand(len(x), -1, -1), x], 1)
            padding = None if padding is None else F.pad(padding, (count, 0))
        attend = attended(padding)
        for block in self.blocks:
            x = block(x, attend)
        return x if registers else x[:, count:]
