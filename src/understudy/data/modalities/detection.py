"""Images with boxes around what is in them: the boxes move with the view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from understudy import maths
from understudy.data.modalities.segmentation import SceneModality
from understudy.data.samples import Inputs

VISIBLE = 0.25
"""Share of a box that must be left in a view: of less, nobody could tell what it is."""


class Boxed(NamedTuple):
    """One image, and the boxes in it where they are known."""

    image: Image.Image
    boxes: Tensor
    """float32 ``[N, 5]``: left, top, right, bottom as shares of the image's width and height, and the number of the class; -1 for a row that only fills up."""


class DetectionModality(SceneModality):
    """Square images as of ``ImageModality`` with boxes: raw ``{"image": uint8 [B, C, S, S], "boxes": float32 [B, N, 5]}``.

    A box is left, top, right and bottom, the canvas spanning [-1, 1], and the number of its class, -1 where a row only fills up. Views have boxes of that form as ``truth``.
    """

    name = "detection"

    def examples(self, count: int) -> Inputs:
        return {**super().examples(count), "boxes": torch.tensor([-0.5, -0.5, 0.5, 0.5, 0.0]).repeat(count, 1, 1)}

    def encode(self, original: Boxed) -> Inputs:  # type: ignore[override]
        """Image and boxes, cut to the central square alike."""
        encoded = super().encode(original.image)
        width, height = original.image.size
        size = torch.tensor([width, height]).repeat(2)
        corners = (original.boxes[:, :4] * size - (size - size.min()) / 2) / size.min() * 2.0 - 1.0
        return {**encoded, "boxes": _left(corners, original.boxes[:, 4])}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        """Samples with fewer boxes than others are filled up."""
        boxes = torch.nn.utils.rnn.pad_sequence([e["boxes"] for e in encoded], batch_first=True, padding_value=-1.0)
        return {**super().collate(encoded), "boxes": boxes}

    def moved(self, raw: Inputs, place: Tensor, size: int) -> Tensor:
        """The boxes in the view, float32 ``[B, N, 5]``, without those of which it shows too little."""
        still = torch.eye(2, 3, device=place.device).expand_as(place)
        return _left(maths.hull(raw["boxes"][..., :4], maths.between(still, place)), raw["boxes"][..., 4])


def _left(corners: Tensor, classes: Tensor) -> Tensor:
    """Boxes cut off at the borders; those of which too little is left have no class any more."""
    inside, share = maths.clipped_boxes(corners)
    return torch.cat([inside, classes.where(share >= VISIBLE, -1.0).unsqueeze(-1)], -1)
