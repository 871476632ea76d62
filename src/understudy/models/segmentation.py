"""A student that answers at every pixel."""

from __future__ import annotations

from math import isqrt

import torch.nn.functional as F
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch, Inputs, View
from understudy.models.backbone import Features
from understudy.models.student import Drawing


class Segmenter(Drawing):
    """A student whose head answers at every place of a square view."""

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits ``[B, C, h, w]``. Raises LookupError without classes."""
        height, width = inputs["pixels"].shape[-2:]
        return self.logits(self.features(inputs))[:, :, :height, :width]

    def logits(self, features: Features) -> Tensor:
        """Logits ``[B, C, h, w]`` of what ``features`` of a square view gave, between its tokens on straight lines. Raises LookupError without classes."""
        if self.head is None:
            raise LookupError("this student has no classes; give it a head with with_head(classes, key)")
        side, patch = isqrt(features.tokens.shape[1]), self.backbone.patch
        logits = self.head(features.tokens).transpose(1, 2).unflatten(2, (side, side))
        return logits if patch == 1 else F.interpolate(logits, scale_factor=float(patch or 1), mode="bilinear", align_corners=False)

    def losses(self, batch: Batch, view: View, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the labelled pixels of every sample, ``[B]``."""
        assert view.truth is not None, "views of such data have the mask"
        return maths.pixel_cross_entropy(self(view.inputs), view.truth, smoothing)
