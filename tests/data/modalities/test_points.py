"""Clouds of points: how they are sampled, and what views do to them."""

from __future__ import annotations

import json

import pytest
import torch

from understudy import keyed
from understudy.data.modalities import PointsModality, restore
from understudy.data.modalities.points import Shape
from understudy.errors import UserError

MODALITY = PointsModality(64)
RAW = MODALITY.examples(12)
KEYS = torch.as_tensor(keyed.fold(3, torch.arange(12)))


def square(scale: float) -> Shape:
    """A thin and a wide rectangle in one plane, whose areas are as 1 to 3."""
    corners = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [4, 0, 0], [4, 1, 0]], dtype=torch.float32) * scale
    return Shape(corners, torch.tensor([[0, 1, 2], [0, 2, 3], [1, 4, 5], [1, 5, 2]]))


def test_a_surface_is_covered_by_its_area() -> None:
    points = PointsModality(1024).encode(square(7.0))["points"]
    assert points.mean(0).abs().max() < 1e-5 and abs(float(points.norm(dim=1).max()) - 1) < 1e-5
    assert points[:, 2].abs().max() < 1e-6
    along = (points[:, 0] - points[:, 0].min()) / (points[:, 0].max() - points[:, 0].min())
    assert abs(float((along < 0.25).float().mean()) - 0.25) < 0.02
    torch.testing.assert_close(PointsModality(1024).encode(square(1.0))["points"], points)


def test_points_alone_are_taken_as_they_are() -> None:
    few = Shape(torch.tensor([[0.0, 0, 0], [2, 0, 0]]))
    assert {tuple(row) for row in MODALITY.encode(few)["points"].tolist()} == {(-1.0, 0.0, 0.0), (1.0, 0.0, 0.0)}
    assert MODALITY.encode(Shape(torch.zeros(3, 3)))["points"].isfinite().all()
    for bad in (torch.zeros(0, 3), torch.tensor([[0.0, torch.nan, 0.0]])):
        with pytest.raises(ValueError, match="no points|not finite"):
            MODALITY.encode(Shape(bad))


@pytest.mark.parametrize("name", MODALITY.views)
def test_a_view_is_a_function_of_sample_and_key(name: str) -> None:
    whole = MODALITY.view(RAW, name, KEYS)
    for selection in (torch.tensor([4]), torch.tensor([6, 0, 11])):
        part = MODALITY.view({k: v[selection] for k, v in RAW.items()}, name, KEYS[selection])
        assert torch.equal(part.inputs["points"], whole.inputs["points"][selection])
        assert part.masked is None or torch.equal(part.masked, whole.masked[selection])  # type: ignore[index]
    other = MODALITY.view(RAW, name, keyed.fold(KEYS, 1))  # type: ignore[arg-type]
    same = torch.equal(other.inputs["points"], whole.inputs["points"]) and (whole.masked is None or torch.equal(other.masked, whole.masked))  # type: ignore[arg-type]
    assert same == (name == "plain")


def test_weak_turns_about_the_vertical() -> None:
    plain, weak = RAW["points"], MODALITY.view(RAW, "weak", KEYS).inputs["points"]
    ratio = weak[..., 1].std(1) / plain[..., 1].std(1)
    assert float(ratio.min()) > 0.78 and float(ratio.max()) < 1.28
    correlation = [torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(plain[..., 1], weak[..., 1], strict=True)]
    assert min(correlation) > 0.99
    flat = [float(torch.corrcoef(torch.stack([a, b]))[0, 1]) for a, b in zip(plain[..., 0], weak[..., 0], strict=True)]
    assert min(flat) < 0.3


def test_strong_leaves_half_at_least() -> None:
    strong = MODALITY.view(RAW, "strong", KEYS).inputs["points"]
    left = [len({tuple(row) for row in cloud.tolist()}) for cloud in strong]
    assert 32 <= min(left) < max(left) <= 64


def test_masked_counts_groups_and_mistakes_are_said() -> None:
    view = MODALITY.view(RAW, "masked", KEYS, ratio=0.5, patch=8)
    assert view.masked is not None and view.masked.sum(1).tolist() == [4] * 12 and view.masked.shape == (12, 8)
    assert restore(json.loads(json.dumps(MODALITY.signature()))).signature() == MODALITY.signature()
    with pytest.raises(UserError, match="shapes have no view 'wild'"):
        MODALITY.view(RAW, "wild", KEYS)
    with pytest.raises(UserError, match="multiple of 16"):
        PointsModality(20)
