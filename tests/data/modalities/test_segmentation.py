"""Masks move with their pixels, in every view; nothing is labelled outside of the canvas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from understudy import keyed, maths
from understudy.data.modalities import Scene, SegmentationModality, restore
from understudy.errors import UserError

KEYS = keyed.fold(3, torch.arange(60))


def scenes(size: int = 32) -> dict[str, torch.Tensor]:
    """The brightness of a pixel says its class: four quarters, each of another class, and a bright disc in the last."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    mask = (2 * (y >= size // 2) + (x >= size // 2)).to(torch.uint8)
    return {"image": (mask * 60).expand(60, 1, -1, -1).clone(), "mask": mask.expand(60, -1, -1).clone()}


@pytest.mark.parametrize(("size", "canvas"), [(32, 32), (24, 32)])
@pytest.mark.parametrize("name", ["plain", "weak", "crop"])
def test_a_pixel_and_its_class_stay_together(name: str, size: int, canvas: int) -> None:
    view = SegmentationModality(size, 1, canvas).view(scenes(canvas), name, KEYS)
    assert view.truth is not None and view.truth.shape == (60, size, size) and view.truth.dtype == torch.uint8
    seen, known = (view.inputs["pixels"][:, 0] * 255 / 60).round(), view.truth != 255
    # Where classes meet, a pixel is of both.
    assert float((seen == view.truth)[known].float().mean()) > 0.9
    assert float(known.float().mean()) > 0.75


def test_strong_views_bend_masks_as_they_bend_pixels() -> None:
    """Without the two squares that colour operations and the cut-out change, brightness still says the class."""
    view = SegmentationModality(32, 1).view(scenes(), "strong", KEYS)
    assert view.truth is not None
    agreeing = []
    for pixels, truth in zip(view.inputs["pixels"][:, 0], view.truth, strict=True):
        means = [float(pixels[truth == c].median()) for c in range(4) if int((truth == c).sum()) > 40]
        agreeing.append(means == sorted(means) or means == sorted(means, reverse=True))
    assert np.mean(agreeing) > 0.7


def test_what_is_said_of_a_weak_view_is_carried_to_the_strong_one() -> None:
    modality = SegmentationModality(32, 1)
    weak, strong = (modality.view(scenes(), name, KEYS) for name in ("weak", "strong"))
    assert weak.place is not None and strong.place is not None and weak.truth is not None and strong.truth is not None
    carried = maths.carried(weak.truth, maths.between(strong.place, weak.place), 32, 255)
    both = (carried != 255) & (strong.truth != 255)
    assert float((carried == strong.truth)[both].float().mean()) > 0.95 and float(both.float().mean()) > 0.5
    still = (weak.truth == strong.truth)[(weak.truth != 255) & (strong.truth != 255)]
    assert float(still.float().mean()) < 0.9


@pytest.mark.parametrize("name", SegmentationModality.views)
def test_a_view_belongs_to_its_key_and_not_to_its_batch(name: str) -> None:
    modality, raw = SegmentationModality(24, 1, 32), scenes()
    whole = modality.view(raw, name, KEYS)
    part = modality.view({k: v[7:9] for k, v in raw.items()}, name, KEYS[7:9])
    rows = whole.rows(torch.tensor([7, 8]))
    assert rows.truth is not None and part.truth is not None and rows.place is not None and part.place is not None
    assert torch.equal(rows.inputs["pixels"], part.inputs["pixels"]) and torch.equal(rows.truth, part.truth) and torch.equal(rows.place, part.place)


def test_image_and_mask_are_cut_alike() -> None:
    pixels = np.zeros((20, 40), np.uint8)
    pixels[5:15, 15:25] = 200
    mask = (pixels > 0).astype(np.uint8)
    encoded = SegmentationModality(20, 1).encode(Scene(Image.fromarray(pixels), Image.fromarray(mask)))
    assert torch.equal(encoded["mask"], (encoded["image"][0] > 100).to(torch.uint8)) and int(encoded["mask"].sum()) == 100
    assert bool((SegmentationModality(20, 1).encode(Scene(Image.fromarray(pixels)))["mask"] == 255).all())


def test_unknown_views_are_refused_and_a_signature_restores() -> None:
    modality = SegmentationModality(16, 3, 20, flip=False)
    with pytest.raises(UserError, match="choose one of plain, weak, strong"):
        modality.view(modality.examples(60), "masked", KEYS)
    assert restore(modality.signature()).signature() == modality.signature()
    assert isinstance(restore(modality.signature()), SegmentationModality)
