"""Boxes move with what they are around, in every view."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from understudy import keyed, maths
from understudy.data.modalities import Boxed, DetectionModality, restore

COUNT = 60
KEYS = keyed.fold(3, torch.arange(COUNT))


def scenes(size: int = 32) -> dict[str, torch.Tensor]:
    """A bright rectangle somewhere in the dark, with its box; in a second row a box that only fills up."""
    corner = keyed.integers(keyed.fold(KEYS, 1), size // 2, (2,))
    sides = 5 + keyed.integers(keyed.fold(KEYS, 2), size // 4, (2,))
    at = torch.arange(size)
    inside = (at >= corner.unsqueeze(2)) & (at < (corner + sides).unsqueeze(2))
    image = (inside[:, 1, :, None] & inside[:, 0, None, :]) * 200
    boxes = torch.cat([torch.cat([corner, corner + sides], 1) / size * 2 - 1, keyed.integers(keyed.fold(KEYS, 4), 3)[:, None]], 1)
    return {"image": image.to(torch.uint8).unsqueeze(1), "boxes": torch.stack([boxes, torch.full_like(boxes, -1.0)], 1).float()}


def seen(pixels: torch.Tensor) -> torch.Tensor | None:
    """The box around what is bright in a view ``[1, S, S]``."""
    rows, columns = (pixels[0] > 0.35).any(1).nonzero().flatten(), (pixels[0] > 0.35).any(0).nonzero().flatten()
    if not len(rows):
        return None
    edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return edges / pixels.shape[-1] * 2 - 1


@pytest.mark.parametrize(("size", "canvas"), [(32, 32), (24, 32)])
@pytest.mark.parametrize("name", ["plain", "weak", "crop"])
def test_a_box_stays_around_its_object(name: str, size: int, canvas: int) -> None:
    modality = DetectionModality(size, 1, canvas)
    raw = scenes(canvas)
    view = modality.view(raw, name, KEYS)
    assert view.truth is not None and view.truth.shape == (COUNT, 2, 5) and bool((view.truth[:, 1, 4] == -1).all())
    overlaps = []
    for pixels, truth, before in zip(view.inputs["pixels"], view.truth[:, 0], raw["boxes"][:, 0], strict=True):
        around = seen(pixels)
        if truth[4] >= 0:
            assert truth[4] == before[4] and around is not None
            # A mirrored border can show the object a second time.
            overlaps.append(float(maths.iou(around.unsqueeze(0), truth[None, :4])))
    assert len(overlaps) > 0.7 * COUNT and float(np.median(overlaps)) > 0.8
    assert name != "weak" or sum(overlap > 0.8 for overlap in overlaps) > 0.7 * len(overlaps)


def test_what_is_said_of_a_weak_view_is_carried_to_the_strong_one() -> None:
    modality = DetectionModality(32, 1)
    weak, strong = (modality.view(scenes(), name, KEYS) for name in ("weak", "strong"))
    assert weak.place is not None and strong.place is not None and weak.truth is not None and strong.truth is not None
    there, share = maths.clipped_boxes(maths.hull(weak.truth[..., :4], maths.between(weak.place, strong.place)))
    both = (weak.truth[:, 0, 4] >= 0) & (strong.truth[:, 0, 4] >= 0) & (share[:, 0] > 0.9)
    moved, still = (torch.stack([maths.iou(a[:1, :4], b[:1, :4])[0, 0] for a, b in zip(ours, strong.truth, strict=True)])[both] for ours in (there, weak.truth))
    assert int(both.sum()) > 25 and float((moved > 0.7).float().mean()) > 0.9 and float(still.mean()) < 0.6


def test_of_what_a_view_hardly_shows_there_is_no_box() -> None:
    boxes = torch.tensor([[[0.5, -0.2, 1.0, 0.2, 1.0]]]).expand(COUNT, -1, -1)
    view = DetectionModality(32, 1).view({**scenes(), "boxes": boxes}, "crop", KEYS, scale=(0.2, 0.3))
    assert view.truth is not None
    shown = view.truth[:, 0, 4] >= 0
    assert 0 < int(shown.sum()) < COUNT
    area = (view.truth[:, 0, 2] - view.truth[:, 0, 0]) * (view.truth[:, 0, 3] - view.truth[:, 0, 1])
    assert bool((area[shown] > 0).all()) and bool((view.truth[..., :4].abs() <= 1).all())


@pytest.mark.parametrize("name", DetectionModality.views)
def test_a_view_belongs_to_its_key_and_not_to_its_batch(name: str) -> None:
    modality, raw = DetectionModality(24, 1, 32), scenes()
    whole, part = modality.view(raw, name, KEYS), modality.view({k: v[7:9] for k, v in raw.items()}, name, KEYS[7:9])
    rows = whole.rows(torch.tensor([7, 8]))
    assert rows.truth is not None and part.truth is not None
    assert torch.equal(rows.inputs["pixels"], part.inputs["pixels"]) and torch.equal(rows.truth, part.truth)


def test_image_and_boxes_are_cut_alike() -> None:
    pixels = np.zeros((20, 40), np.uint8)
    pixels[5:15, 15:25] = 200
    boxes = torch.tensor([[15 / 40, 5 / 20, 25 / 40, 15 / 20, 2.0], [0.0, 0.0, 0.2, 1.0, 1.0]])
    modality = DetectionModality(20, 1)
    encoded = modality.encode(Boxed(Image.fromarray(pixels), boxes))
    torch.testing.assert_close(encoded["boxes"][0], torch.tensor([-0.5, -0.5, 0.5, 0.5, 2.0]))
    assert encoded["boxes"][1, 4] == -1, "the left of a wide image is not seen"
    assert bool((encoded["image"][0, 5:15, 5:15] == 200).all())
    whole = modality.collate([encoded, modality.encode(Boxed(Image.fromarray(pixels), boxes[:1]))])
    assert whole["boxes"].shape == (2, 2, 5) and whole["boxes"][1, 1, 4] == -1


def test_a_signature_restores() -> None:
    modality = DetectionModality(16, 3, 20, flip=False)
    assert restore(modality.signature()).signature() == modality.signature() and isinstance(restore(modality.signature()), DetectionModality)
