"""The built-in network for answers at every pixel: small, convolutional, down and up again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.backbone import Backbone, Features
from understudy.models.image import PixelInput, Residual, Shade, convolution


class UNet(Backbone):
    """Residual blocks at ever smaller sizes, and back up with what was seen on the way down (U-Net, 1505.04597, with sums of projections for copies).

    Tokens are squares of ``stride`` pixels of the view, row by row; pooled is their mean.
    """

    modality = "segmentation"
    rate = 3e-3

    def __init__(
        self, channels: int, size: int, widths: Sequence[int] = (32, 64, 128), stride: int = 2, depth: int = 1, norm: bool = True, mean: Shade = 0.5,
        std: Shade = 0.25,
    ):  # fmt: skip
        super().__init__()
        self.channels, self.patch, self.stride = channels, stride, stride
        self.width = self.token_width = widths[0]
        self.pixels = PixelInput(channels, mean, std, stride * 2 ** (len(widths) - 1), paints=False)
        self.stem = convolution(channels, widths[0], 3, stride, norm)
        self.down = nn.ModuleList(
            nn.Sequential(Residual(a, b, 2, norm), *(Residual(b, b, 1, norm) for _ in range(depth - 1))) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.past = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(Residual(a, a, 1, norm) for a in widths[:-1])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        if masked is not None:
            raise ValueError("this model answers at every pixel and hides none")
        pixels = inputs["pixels"]
        seen = [F.relu(self.stem(self.pixels(pixels).contiguous(memory_format=torch.channels_last)), inplace=True)]
        for block in self.down:
            seen.append(block(seen[-1]))
        x = seen.pop()
        for past, up in zip(reversed(self.past), reversed(self.up), strict=True):
            x = up(seen.pop() + F.interpolate(past(x), scale_factor=2.0, mode="nearest"))
        rows, columns = self.places(inputs)
        tokens = x[:, :, :rows, :columns].flatten(2).transpose(1, 2)
        return Features(tokens.mean(1), tokens)

    def positions(self, inputs: Inputs) -> int:
        rows, columns = self.places(inputs)
        return rows * columns

    def places(self, inputs: Inputs) -> tuple[int, int]:
        """Rows and columns of the tokens; the last ones may lie partly outside of the view."""
        height, width = inputs["pixels"].shape[2:]
        return -(-height // self.stride), -(-width // self.stride)


class BoxNet(UNet):
    """The same network for boxes, which are answered at every token."""

    modality = "detection"
