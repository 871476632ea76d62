"""An image encoder and a text encoder that meet in one space (CLIP, arXiv 2103.00020)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.backbone import Backbone, Features
from understudy.models.image import ViT
from understudy.models.text import TextTransformer

TEMPERATURE = 0.07
"""Where the learned temperature starts (section 2.5)."""


class CLIP(Backbone):
    """Two transformers of one width, each with a linear map to ``joint`` features of length 1.

    It reads an image, a text, or both: pooled is the joint feature of what is there, of both their mean; tokens are the image's, then the text's.
    """

    modality = "image-text"
    patch = None

    def __init__(
        self, channels: int, size: int, vocabulary: int, length: int, width: int = 96, depth: int = 4, text_depth: int = 2, heads: int = 3, joint: int = 64
    ):
        super().__init__()
        self.width, self.token_width = joint, width
        self.image = ViT(channels, size, width, depth, heads)
        self.text = TextTransformer(vocabulary, length, width, text_depth, heads)
        self.from_image = nn.Linear(width, joint, bias=False)
        self.from_text = nn.Linear(width, joint, bias=False)
        self.scale = nn.Parameter(torch.tensor([math.log(1 / TEMPERATURE)]))  # of one place: FSDP shards no scalars
        for projection in (self.from_image, self.from_text):
            nn.init.normal_(projection.weight, std=width**-0.5)

    def images(self, inputs: Inputs) -> Tensor:
        """Joint features ``[B, joint]`` of images, length 1."""
        return F.normalize(self.from_image(self.image(inputs).pooled), dim=-1)

    def texts(self, inputs: Inputs) -> Tensor:
        """Joint features ``[B, joint]`` of texts, length 1."""
        return F.normalize(self.from_text(self.text(inputs).pooled), dim=-1)

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        seen = [(self.image(inputs), self.from_image)] if "pixels" in inputs else []
        seen += [(self.text(inputs), self.from_text)] if "tokens" in inputs else []
        pooled = torch.stack([F.normalize(project(features.pooled), dim=-1) for features, project in seen]).mean(0)
        tokens = torch.cat([features.tokens for features, _ in seen], 1)
        if "tokens" not in inputs:
            return Features(pooled, tokens)
        visible = inputs["padding"].new_zeros(len(pooled), tokens.shape[1] - inputs["padding"].shape[1])
        return Features(pooled, tokens, torch.cat([visible, inputs["padding"]], 1))

    def positions(self, inputs: Inputs) -> int:
        return sum(part.positions(inputs) for part, name in ((self.image, "pixels"), (self.text, "tokens")) if name in inputs)
