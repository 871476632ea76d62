"""A diffusion transformer (DiT, arXiv 2212.09748): it says which way a noisy image moves, and what it has seen on the way is features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.maths.reconstruction import unpatchify
from understudy.models.backbone import Backbone, Features, check_mask
from understudy.models.image import PixelInput
from understudy.models.transformer import Attention, initialise, sinusoid, sinusoid_grid


class Conditioned(nn.Module):
    """A block whose norms are scaled and shifted, and whose branches are gated, by the time; at the start every gate is closed (adaLN-Zero, section 3.2)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(time).unsqueeze(1).chunk(6, -1)
        x = x + gate * self.attention(self.attention_norm(x) * (1 + scale) + shift, None)
        return x + mlp_gate * self.mlp(self.mlp_norm(x) * (1 + mlp_scale) + mlp_shift)


class DiT(Backbone):
    """A transformer over patches and a time in [0, 1], 0 for a clean image and 1 for noise.

    As a backbone it reads an image at time 0; tokens are those after the block ``reads``, counted from 1 (default: half of them), and pooled is their mean.
    ``velocity`` is what it is trained for, on images scaled to [-1, 1].
    """

    modality = "image"

    def __init__(self, channels: int, size: int, width: int = 96, depth: int = 6, heads: int = 3, patch: int | None = None, reads: int | None = None):
        super().__init__()
        self.width = self.token_width = width
        self.channels, self.size, self.reads = channels, size, reads or (depth + 1) // 2
        self.patch = patch = patch or (2 if size <= 16 else 4 if size <= 40 else 8 if size <= 64 else 16)
        side = -(-size // patch)
        self.pixels = PixelInput(channels, 0.5, 0.5, patch, paints=False)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Conditioned(width, heads) for _ in range(depth))
        self.seen = nn.LayerNorm(width, elementwise_affine=False)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, channels * patch**2)
        self.mask = nn.Parameter(torch.empty(width))
        self.apply(initialise)
        self.patches = nn.Conv2d(channels, width, patch, patch)
        nn.init.xavier_uniform_(self.patches.weight.view(width, -1))
        nn.init.trunc_normal_(self.mask, std=0.02)
        for layer in (*(block.modulation for block in self.blocks), self.modulation, self.out):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type, union-attr]
        self.places = nn.Parameter(sinusoid_grid(side, side, width).T.reshape(1, width, side, side).contiguous())

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        x, time = self._embedded(self.scaled(inputs), None, masked)
        for block in self.blocks[: self.reads]:
            x = block(x, time)
        return self._features(x)

    def positions(self, inputs: Inputs) -> int:
        return self.pixels.positions(inputs["pixels"])

    def scaled(self, inputs: Inputs) -> Tensor:
        """A view's pixels as the model has them: in [-1, 1], its own channels, ``[B, C, H, W]`` of whole patches."""
        return self.pixels(inputs["pixels"])  # type: ignore[no-any-return]

    def velocity(self, noisy: Tensor, t: Tensor) -> tuple[Tensor, Features]:
        """dx / dt ``[B, C, H, W]`` of noisy images at times ``[B]``, and the features on the way."""
        x, time = self._embedded(noisy, t)
        for number, block in enumerate(self.blocks, 1):
            x = block(x, time)
            if number == self.reads:
                features = self._features(x)
        shift, scale = self.modulation(time).unsqueeze(1).chunk(2, -1)
        patches = self.out(self.norm(x) * (1 + scale) + shift)
        return unpatchify(patches, self.patch, *noisy.shape[2:]), features  # type: ignore[arg-type]

    def _features(self, x: Tensor) -> Features:
        seen = self.seen(x)
        return Features(seen.mean(1), seen)

    def _embedded(self, x: Tensor, t: Tensor | None, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        content, places = self.patches(x), self.places
        if content.shape[2:] != places.shape[2:]:
            places = F.interpolate(places, size=tuple(content.shape[2:]), mode="bicubic", align_corners=False)  # type: ignore[assignment]
        content = content.flatten(2).transpose(1, 2)
        if masked is not None:
            check_mask(masked, content.shape[1])
            content = torch.where(masked.unsqueeze(-1), self.mask.to(content.dtype), content)
        t = x.new_zeros(len(x)) if t is None else t
        return content + places.flatten(2).transpose(1, 2), self.time(sinusoid(1000 * t, self.width).to(x.dtype))
