"""The built-in backbone of clouds of points: a transformer over groups of neighbours (Point-MAE, arXiv 2203.06604, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Inputs
from understudy.errors import UserError
from understudy.models.transformer import Transformer, initialise


class PointTransformer(Transformer):
    """Far points are centres; a token is the ``2 * patch`` points nearest to its centre, seen from there, and its place a small network of where the centre is."""

    modality = "points"

    def __init__(self, count: int, width: int = 96, depth: int = 3, heads: int = 4, patch: int = 16, drop_path: float = 0.0):
        super().__init__(width, depth, heads, drop_path)
        if count % patch:
            raise UserError(f"{count} points are no whole number of groups for every {patch}; choose another patch")
        self.patch, self.count = patch, count
        self.each = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.both = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, width))
        self.places = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.blocks.apply(initialise)

    def grouped(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Centres ``[B, T, 3]`` and the points of each group as seen from its centre ``[B, T, 2 * patch, 3]``."""
        index = maths.farthest_points(points, self.positions({"points": points}))
        centres = points.gather(1, index.unsqueeze(2).expand(-1, -1, 3))
        distance = (centres.unsqueeze(2) - points.unsqueeze(1)).square().sum(-1)
        near = distance.topk(min(2 * self.patch, points.shape[1]), dim=2, largest=False).indices  # type: ignore[operator]
        groups = points.gather(1, near.flatten(1).unsqueeze(2).expand(-1, -1, 3)).view(*near.shape, 3)
        return centres, groups - centres.unsqueeze(2)

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor, None]:
        centres, groups = self.grouped(inputs["points"])
        x = self.each(groups)
        x = self.both(torch.cat([x, x.amax(2, keepdim=True).expand_as(x)], -1)).amax(2)
        return x, self.places(centres), None

    def positions(self, inputs: Inputs) -> int:
        return int(inputs["points"].shape[1]) // self.patch  # type: ignore[operator]
