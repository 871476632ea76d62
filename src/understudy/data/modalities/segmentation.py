"""Images whose every pixel has a class: the mask moves with the view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from understudy import maths
from understudy.data.modalities.image import ImageModality
from understudy.data.samples import Inputs, View
from understudy.errors import UserError


class Scene(NamedTuple):
    """One image, and the classes of its pixels where they are known."""

    image: Image.Image
    mask: Image.Image | None = None
    """Mode L, as large as the image: the number of a pixel's class, 255 where it has no label."""


class SceneModality(ImageModality):
    """Images whose labels are drawn on them. A view says its ``place``, so that what is said of one view can be carried to another."""

    views: tuple[str, ...] = ("plain", "weak", "strong", "crop", "augmented")

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """As of images, with ``place``, and ``truth`` as the view shows it: of a mirrored border nothing is labelled."""
        if name not in self.views:
            raise UserError(f"{self.noun} with drawn labels have no view '{name}': choose one of {', '.join(self.views)}")
        seen = super().view(raw, name, keys, **options)
        place = self.place(name, keys, **{option: value for option, value in options.items() if option == "scale"})
        return replace(seen, place=place, truth=self.moved(raw, place, seen.inputs["pixels"].shape[-1]))

    def moved(self, raw: Inputs, place: Tensor, size: int) -> Tensor:
        """The labels of a raw batch as a view of ``size`` pixels at ``place`` shows them."""
        raise LookupError("a kind of drawn label says how it moves")


class SegmentationModality(SceneModality):
    """Square images as of ``ImageModality`` with a mask: raw ``{"image": uint8 [B, C, S, S], "mask": uint8 [B, S, S]}``, 255 where a pixel has no label."""

    name = "segmentation"

    def examples(self, count: int) -> Inputs:
        return {**super().examples(count), "mask": torch.zeros(count, self.canvas, self.canvas, dtype=torch.uint8)}

    def encode(self, original: Scene) -> Inputs:  # type: ignore[override]
        """Image and mask, cut and resized alike; the mask takes the nearest pixel."""
        encoded = super().encode(original.image)
        mask = torch.full((self.canvas, self.canvas), maths.UNLABELLED, dtype=torch.uint8)
        if original.mask is not None:
            side = min(original.mask.size)
            box = ((original.mask.width - side) // 2, (original.mask.height - side) // 2)
            square = original.mask.crop((*box, box[0] + side, box[1] + side)).resize((self.canvas, self.canvas), Image.Resampling.NEAREST)
            mask = torch.from_numpy(np.array(square, dtype=np.uint8))
        return {**encoded, "mask": mask}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {**super().collate(encoded), "mask": torch.stack([e["mask"] for e in encoded])}

    def moved(self, raw: Inputs, place: Tensor, size: int) -> Tensor:
        """The class of every pixel, uint8 ``[B, size, size]``, 255 where nothing is labelled."""
        return maths.carried(raw["mask"], place, size, maths.UNLABELLED)
