"""Built-in image backbones: a residual CNN (arXiv 1512.03385) and a vision transformer (arXiv 2010.11929), small enough for two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.backbone import Backbone, Features, check_mask
from understudy.models.norm import BatchNorm2d
from understudy.models.transformer import Transformer, initialise, sinusoid_grid

Shade = float | Sequence[float]
"""One value for all channels, or one for each, in the units of pixels (0 to 1)."""


class PixelInput(nn.Module):
    """From a view's pixels, float ``[B, C, h, w]`` in [0, 1], to what a model was made for.

    Grey becomes ``channels`` equal channels and colour becomes grey where the model sees one; pixels are normalised by ``mean`` and ``std``; hidden patches are
    painted over, with a learned colour or (where the model replaces their tokens anyway) with the mean; only then is the image resized, to ``size`` exactly
    or ``scale`` times, because resizing mixes neighbours.
    """

    mean: Tensor
    std: Tensor
    colour: Tensor

    def __init__(self, channels: int, mean: Shade, std: Shade, patch: int | None, size: tuple[int, int] | None = None, scale: float = 1.0, paints: bool = True):
        super().__init__()
        self.channels, self.patch, self.size, self.scale = channels, patch, size, scale
        self.register_buffer("mean", torch.as_tensor(mean).float().expand(channels).clone().view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.as_tensor(std).float().expand(channels).clone().view(-1, 1, 1), persistent=False)
        if paints:
            self.colour = nn.Parameter(torch.zeros(channels))
        else:
            self.register_buffer("colour", torch.zeros(channels), persistent=False)

    def forward(self, pixels: Tensor, masked: Tensor | None = None) -> Tensor:
        if pixels.shape[1] != self.channels:
            pixels = pixels.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)
        x = (pixels - self.mean) / self.std
        if self.patch is not None:
            x = whole_patches(x, self.patch)
        if masked is not None:
            x = self.paint(x, masked)
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, size=self.size, mode="bicubic", antialias=True, align_corners=False)
        elif self.scale != 1:
            x = F.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return x

    def paint(self, x: Tensor, masked: Tensor) -> Tensor:
        if self.patch is None:
            raise ValueError("this model resizes so that a token covers no whole number of pixels: its positions can not be hidden; choose another image size")
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        check_mask(masked, rows * columns)
        hidden = masked.view(-1, 1, rows, columns).repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return torch.where(hidden, self.colour.view(-1, 1, 1).to(x.dtype), x)

    def positions(self, pixels: Tensor) -> int:
        """How many patches the view has."""
        if self.patch is None:
            raise ValueError("this model resizes so that a token covers no whole number of pixels: its positions can not be counted in the view")
        return -(-pixels.shape[2] // self.patch) * -(-pixels.shape[3] // self.patch)


def whole_patches(pixels: Tensor, patch: int) -> Tensor:
    """Repeat the last row and column until ``patch`` divides height and width."""
    below, right = -pixels.shape[2] % patch, -pixels.shape[3] % patch
    return F.pad(pixels, (0, right, 0, below), mode="replicate") if below or right else pixels


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input is led past."""

    def __init__(self, entering: int, width: int, stride: int, norm: bool):
        super().__init__()
        self.first = convolution(entering, width, 3, stride, norm)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=not norm)
        self.norm = BatchNorm2d(width) if norm else nn.Identity()
        self.past = nn.Identity() if entering == width and stride == 1 else convolution(entering, width, 1, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.second(F.relu(self.first(x), inplace=True)))
        return F.relu(inner + self.past(x), inplace=True)


def convolution(entering: int, width: int, size: int, stride: int, norm: bool) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(entering, width, size, stride, size // 2, bias=not norm), *([BatchNorm2d(width)] if norm else []))


class SmallResNet(Backbone):
    """Three stages of residual blocks with global batch normalisation, or without any where not ``norm``.

    Tokens are the last map, row by row; pooled is their mean. The total stride (``patch``) is 4 for images up to 40 pixels, 2 up to 12 and 8 above.
    """

    modality = "image"
    rate = 3e-3  # in runs of minutes 1e-3 leaves it unfinished

    def __init__(
        self, channels: int, size: int, widths: Sequence[int] = (32, 64, 128), depth: int = 1, norm: bool = True, mean: Shade = 0.5, std: Shade = 0.25
    ):
        super().__init__()
        stem, *strides = (1, 1, 2, 1) if size <= 12 else (2, 1, 2, 1) if size <= 40 else (2, 1, 2, 2)
        self.channels = channels
        self.patch = stem * strides[1] * strides[2]
        self.width = self.token_width = widths[-1]
        self.pixels = PixelInput(channels, mean, std, self.patch)
        self.stem = convolution(channels, widths[0], 3, stem, norm)
        blocks: list[Residual] = []
        entering = widths[0]
        for width, stride in zip(widths, strides, strict=True):
            blocks += [Residual(entering if i == 0 else width, width, stride if i == 0 else 1, norm) for i in range(depth)]
            entering = width
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in blocks if norm else ():
            nn.init.zeros_(block.norm.weight)  # type: ignore[arg-type]  # every block starts as the identity (arXiv 1706.02677, section 5.1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPU

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        x = self.pixels(inputs["pixels"], masked).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem(x), inplace=True)
        for block in self.blocks:
            x = block(x)
        tokens = x.flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens)

    def positions(self, inputs: Inputs) -> int:
        return self.pixels.positions(inputs["pixels"])


class ConvNet(Backbone):
    """Convolutions, each with instance normalisation and halving the map, whose last map is one long vector (arXiv 1711.04043; 2006.05929, section 4.1).

    It learns from a few images by plain gradient descent, and so is what data sets are distilled with. Fewer than ``depth`` halvings where the image is too small.
    """

    modality = "image"
    rate = 3e-3

    def __init__(self, channels: int, size: int, width: int = 64, depth: int = 3, mean: Shade = 0.5, std: Shade = 0.25):
        super().__init__()
        depth = max(1, min(depth, size.bit_length() - 2))
        self.patch = 2**depth
        self.side = -(-size // self.patch)
        self.channels, self.token_width, self.width = channels, width, width * self.side**2
        self.pixels = PixelInput(channels, mean, std, self.patch)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels if i == 0 else width, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2))
            for i in range(depth)
        )

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        x = self.pixels(inputs["pixels"], masked)
        for block in self.blocks:
            x = block(x)
        pooled = x if x.shape[-2:] == (self.side, self.side) else F.adaptive_avg_pool2d(x, self.side)
        return Features(pooled.flatten(1), x.flatten(2).transpose(1, 2))

    def positions(self, inputs: Inputs) -> int:
        return self.pixels.positions(inputs["pixels"])


class ViT(Transformer):
    """A vision transformer over square patches. Learned positions start as sines and are interpolated for images of other sizes."""

    modality = "image"

    def __init__(
        self, channels: int, size: int, width: int = 96, depth: int = 4, heads: int = 3, patch: int | None = None, drop_path: float = 0.0,
        mean: Shade = 0.5, std: Shade = 0.25,
    ):  # fmt: skip
        super().__init__(width, depth, heads, drop_path)
        self.channels = channels
        self.patch = patch = patch or (2 if size <= 12 else 4 if size <= 40 else 8 if size <= 64 else 16)
        side = -(-size // patch)
        self.pixels = PixelInput(channels, mean, std, patch, paints=False)
        self.apply(initialise)
        self.patches = nn.Conv2d(channels, width, patch, patch)
        nn.init.xavier_uniform_(self.patches.weight.view(width, -1))
        self.places = nn.Parameter(sinusoid_grid(side, side, width).T.reshape(1, width, side, side).contiguous())

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor, None]:
        content = self.patches(self.pixels(inputs["pixels"]))
        places: Tensor = self.places
        if content.shape[2:] != places.shape[2:]:
            places = F.interpolate(places, size=tuple(content.shape[2:]), mode="bicubic", align_corners=False)
        return content.flatten(2).transpose(1, 2), places.flatten(2).transpose(1, 2)[0], None

    def positions(self, inputs: Inputs) -> int:
        return self.pixels.positions(inputs["pixels"])
