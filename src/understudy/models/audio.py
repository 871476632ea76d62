"""The built-in backbones of sounds: a residual CNN along time, and a transformer whose tokens are a few frames of it each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.backbone import Backbone, Features, check_mask, pooled_mean
from understudy.models.norm import BatchNorm2d
from understudy.models.transformer import Transformer, initialise, sinusoid


class Along(nn.Module):
    """Two convolutions of three steps around which the input is led past."""

    def __init__(self, entering: int, width: int, stride: int):
        super().__init__()
        self.first, self.second = convolution(entering, width, 3, stride), convolution(width, width, 3, 1)
        self.past = nn.Identity() if entering == width and stride == 1 else convolution(entering, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.past(x))


def convolution(entering: int, width: int, size: int, stride: int) -> nn.Sequential:
    """Along time only: a spectrogram is a map of one row ``[B, bands, 1, L]``."""
    return nn.Sequential(nn.Conv2d(entering, width, (1, size), (1, stride), (0, size // 2), bias=False), BatchNorm2d(width))


class AudioResNet(Backbone):
    """A residual CNN along time, with the bands as its channels: an average over them would not tell high from low. A token covers four frames.

    Pooled is the mean of the tokens that are not behind the end. Hidden frames are silenced before the first convolution, at the mean of the training data.
    """

    modality = "audio"
    patch = 4
    rate = 3e-3

    def __init__(self, mels: int, length: int, widths: Sequence[int] = (64, 128, 128), depth: int = 1):
        super().__init__()
        self.mels, self.length = mels, length
        self.width = self.token_width = widths[-1]
        self.stem = convolution(mels, widths[0], 5, 1)
        blocks: list[Along] = []
        entering = widths[0]
        for width, stride in zip(widths, (1, 2, 2), strict=True):
            blocks += [Along(entering if i == 0 else width, width, stride if i == 0 else 1) for i in range(depth)]
            entering = width
        self.blocks = nn.ModuleList(blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in blocks:
            nn.init.zeros_(block.second[1].weight)  # type: ignore[arg-type]  # every block starts as the identity (arXiv 1706.02677, section 5.1)

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        frames, count = inputs["spectrogram"], self.positions(inputs)
        x = F.pad(frames, (0, count * self.patch - frames.shape[2]))
        if masked is not None:
            check_mask(masked, count)
            x = x.masked_fill(masked.repeat_interleave(self.patch, 1).unsqueeze(1), 0.0)
        x = F.relu(self.stem(x.unsqueeze(2)))
        for block in self.blocks:
            x = block(x)
        tokens = x.flatten(2).transpose(1, 2)
        padding = ~(torch.arange(0, count * self.patch, self.patch, device=x.device) < inputs["steps"].unsqueeze(1))
        return Features(pooled_mean(tokens, padding), tokens, padding)

    def positions(self, inputs: Inputs) -> int:
        return -(-inputs["spectrogram"].shape[2] // self.patch)


class AudioTransformer(Transformer):
    """Patches of ``patch`` frames over all bands (AST, arXiv 2104.01778, with patches as high as the spectrogram). Hidden patches are never left out."""

    modality = "audio"
    drops = False

    patch: int

    def __init__(self, mels: int, length: int, width: int = 96, depth: int = 4, heads: int = 4, patch: int = 4, drop_path: float = 0.0):
        super().__init__(width, depth, heads, drop_path)
        self.mels, self.length, self.patch = mels, length, patch
        self.enter = nn.Linear(mels * patch, width)
        self.apply(initialise)
        nn.init.xavier_uniform_(self.enter.weight)
        self.places = nn.Parameter(sinusoid(torch.arange(-(-length // patch)), width))

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        patches, known = spectrogram_patches(inputs, self.patch)
        return self.enter(patches), self.places, ~known.any(-1)

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        return super().forward(inputs, masked)

    def positions(self, inputs: Inputs) -> int:
        return -(-inputs["spectrogram"].shape[2] // self.patch)


def spectrogram_patches(inputs: Inputs, patch: int) -> tuple[Tensor, Tensor]:
    """The values of each patch ``[B, T, patch * mels]``, and which of them are there, bool likewise."""
    frames = inputs["spectrogram"]
    batch, mels, length = frames.shape
    count = -(-length // patch)
    patches = F.pad(frames, (0, count * patch - length)).transpose(1, 2).reshape(batch, count, patch * mels)
    step = torch.arange(count * patch, device=frames.device).repeat_interleave(mels).view(count, patch * mels)
    return patches, step < inputs["steps"].view(-1, 1, 1)


def hidden_frames(inputs: Inputs, masked: Tensor, patch: int) -> tuple[Tensor, Tensor]:
    """What a decoder has to say of each patch: the spectrogram itself, whatever is hidden."""
    return spectrogram_patches(inputs, patch)
