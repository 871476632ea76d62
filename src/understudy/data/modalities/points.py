"""Clouds of points: sampled once from a shape, viewed turned, stretched and thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.masking import hide
from understudy.data.samples import Inputs, View
from understudy.errors import UserError


@dataclass(frozen=True)
class Shape:
    """Points, or the corners of a surface."""

    vertices: Tensor
    """float32 ``[V, 3]``."""
    faces: Tensor | None = None
    """int64 ``[F, 3]``: triangles of vertices; None where there are only points."""


class PointsModality:
    """``count`` points of a shape in the unit sphere around their mean. ``vertical`` is the axis (0, 1, 2 for x, y, z) that points up; views turn about it."""

    name = "points"
    noun = "shapes"
    views: tuple[str, ...] = ("plain", "weak", "strong", "masked")

    def __init__(self, count: int = 512, vertical: int = 1):
        if count < 16 or count % 16:
            raise UserError(f"a shape is seen as a multiple of 16 points, got {count}: choose another size")
        self.count, self.vertical = count, vertical

    def signature(self) -> dict[str, Any]:
        return {"name": self.name, "count": self.count, "vertical": self.vertical}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None = None) -> PointsModality:
        return cls(signature["count"], signature["vertical"])

    def shape(self) -> dict[str, Any]:
        return {"count": self.count}

    def examples(self, count: int) -> Inputs:
        keys = torch.as_tensor(keyed.fold(keyed.fold(0, "example"), torch.arange(count)))
        return self.collate([{"points": _normalised(row)} for row in keyed.uniform(keys, (self.count, 3), -1.0, 1.0)])

    def encode(self, original: Shape) -> Inputs:
        """``{"points": float32 [count, 3]}``: evenly over the surface where there are faces, otherwise some of the points, some of them twice where there are fewer.

        A pure function of the shape. Raises ValueError for a shape without points, or with one that is not finite.
        """
        vertices, faces = original.vertices.double(), original.faces
        if not len(vertices) or not bool(vertices.isfinite().all()):
            raise ValueError("it has no points" if not len(vertices) else "a point is not finite")
        vertices = vertices - vertices.mean(0)
        if faces is not None and len(faces):
            a, b, c = vertices[faces].unbind(1)
            areas = torch.linalg.cross(b - a, c - a).square().sum(1).sqrt()
            if float(areas.sum()) > 0:
                edge = areas.cumsum(0) / areas.sum()
                spread = (torch.arange(self.count, dtype=torch.float64) + keyed.uniform(keyed.fold(0, "along"), (self.count,))) / self.count
                face = torch.searchsorted(edge, spread.clamp_max(1 - 1e-9)).clamp_max(len(faces) - 1)
                u = keyed.uniform(keyed.fold(0, "within"), (self.count, 2)).double()
                root = u[:, :1].sqrt()
                return {"points": _normalised(((1 - root) * a[face] + root * (1 - u[:, 1:]) * b[face] + root * u[:, 1:] * c[face]).float())}
        order = keyed.permutation(keyed.fold(0, "points"), len(vertices))
        return {"points": _normalised(vertices[order[torch.arange(self.count) % len(order)]].float())}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {"points": torch.stack([e["points"] for e in encoded])}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"points": float32 [B, count, 3]}``.

        ``plain``; ``weak``: turned about the vertical axis, each axis stretched by 0.8 to 1.25, noise of 0.01; ``strong``: also noise of 0.03, and what lies beyond a random
        plane gone, up to half of the points (others stand twice for them); ``masked``: ``ratio`` of the groups hidden in view ``base``, one for every ``patch`` points.
        """
        points = raw["points"]
        match name:
            case "masked":
                return self._masked(raw, keys, **options)
            case "plain":
                pass
            case "weak":
                points = self._moved(points, keys, 0.01, **options)
            case "strong":
                points = _thinned(self._moved(points, keys, 0.03, **options), keyed.fold(keys, "plane"))  # type: ignore[arg-type]
            case _:
                raise UserError(f"shapes have no view '{name}': choose one of {', '.join(self.views)}")
        return View(name, {"points": points}, keys)

    def _moved(self, points: Tensor, keys: Tensor, noise: float) -> Tensor:
        a, b = (self.vertical + 1) % 3, (self.vertical + 2) % 3
        cosine, sine = _direction(keyed.normal(keyed.fold(keys, "turn"), (2,))).unbind(1)
        turned = list(points.unbind(2))
        turned[a], turned[b] = (
            cosine[:, None] * points[..., a] - sine[:, None] * points[..., b],
            sine[:, None] * points[..., a] + cosine[:, None] * points[..., b],
        )
        stretch = keyed.uniform(keyed.fold(keys, "stretch"), (1, 3), 0.8, 1.25)
        return torch.stack(turned, 2) * stretch + noise * keyed.normal(keyed.fold(keys, "noise"), points.shape[1:])

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.6, patch: int = 16, base: str = "plain", **options: Any) -> View:
        inputs = self.view(raw, base, keyed.fold(keys, "base"), **options).inputs  # type: ignore[arg-type]
        groups = torch.ones(len(keys), self.count // patch, dtype=torch.bool, device=keys.device)
        return View("masked", inputs, keys, hide(keyed.fold(keys, "mask"), groups, ratio), max(1, round(self.count // patch * ratio)))  # type: ignore[arg-type]


def _direction(drawn: Tensor) -> Tensor:
    """Normals ``[B, k]`` on the unit sphere; one term after the other, so that a direction is the same bits in any batch."""
    length = drawn[:, 0] * drawn[:, 0]
    for i in range(1, drawn.shape[1]):
        length = length + drawn[:, i] * drawn[:, i]
    return drawn / length.clamp_min(1e-12).sqrt().unsqueeze(1)


def _thinned(points: Tensor, keys: Tensor) -> Tensor:
    """Beyond a random plane nothing is left but copies of what is on this side, of which there is at least half."""
    normal = _direction(keyed.normal(keyed.fold(keys, "normal"), (3,)))
    height = points[..., 0] * normal[:, :1] + points[..., 1] * normal[:, 1:2] + points[..., 2] * normal[:, 2:]
    count = points.shape[1]
    kept = count - torch.floor(keyed.uniform(keyed.fold(keys, "share")) * (count // 2)).long()
    order = height.argsort(dim=1, stable=True)
    place = torch.arange(count, device=points.device) % kept.unsqueeze(1)
    return points.gather(1, order.gather(1, place).unsqueeze(2).expand(-1, -1, 3))


def _normalised(points: Tensor) -> Tensor:
    points = points - points.mean(0)
    return points / points.square().sum(1).amax().sqrt().clamp_min(1e-6)
