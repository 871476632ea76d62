"""Multi-view MAE: from a few groups of a cloud's points, restore the others, and draw what the whole looks like from several sides."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.backbone import seeded, visible
from understudy.models.points import PointTransformer
from understudy.models.transformer import Block, initialise, sinusoid_grid
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="multiview-mae",
    id="s421",
    title="Point Cloud Self-supervised Learning via 3D to Multi-view Masked Autoencoder",
    paper="2311.10887",
    year=2023,
    family="ssl-masked",
    modalities=("points",),
    needs="nothing",
    idea="Most groups of a cloud's points are left out, and a transformer encodes the rest. One decoder is told where the others lay and restores their points. Another is "
    "told a side to look from and draws the depth image of the whole cloud from there: what it needs for that, the encoder must have understood from a few groups.",
    equations=(
        "z = backbone(the groups that are left), M = the groups left out",
        "points = 1/|M| sum_{g in M} Chamfer(decoder(z, centre_g), points of g seen from centre_g)",
        "depth = 1/V sum_v mean over pixels (drawer(z, pose_v) - depth image of the whole cloud from pose_v)^2",
        "loss = points + weight * depth",
    ),
    unknown="The sizes of decoders and images, the number of poses and the weight could not be looked up: ours are small. Poses are turns about the vertical axis, evenly "
    "spread, without perspective. The later version of the paper, with projected features and a second stage of self-training, is not here.",
)


class MultiviewMAESettings(Settings):
    """Settings of ``multiview-mae``."""

    ratio: float = Field(0.6, gt=0, lt=1, description="share of the groups left out (2203.06604, section 4.1, on which this builds)")
    points: float = Field(1.0, ge=0, description="weight of the restored points")
    weight: float = Field(1.0, ge=0, description="weight of the drawn depth images; 0 is Point-MAE")
    poses: int = Field(3, ge=1, description="sides that the cloud is drawn from")
    pixels: int = Field(16, ge=4, multiple_of=4, description="pixels a side of a depth image")
    view: Literal["plain", "weak"] = Field("plain", description="what is left out of and restored; weak: turned, stretched, and noisy (2203.06604: not turned)")
    depth: int = Field(2, ge=1, description="blocks of the decoder of points (2203.06604, section 4.1: 4)")
    drawing: int = Field(1, ge=1, description="blocks of the decoder of images")


class MultiviewMAE(Objective):
    """Restoring points and drawing depths."""

    card = card
    Settings = MultiviewMAESettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.05, "optim.warmup": 0.05}

    def check(self, task: Task) -> None:
        super().check(task)
        if not isinstance(task.student.backbone, PointTransformer):
            raise UserError("multiview-mae leaves groups of points out, which this model cannot; choose small-points")

    def build(self, task: Task) -> None:
        s, backbone = self.settings, self.student.backbone
        width = max(8, backbone.token_width // 2 // 4 * 4)
        self.vertical = task.train.modality.vertical  # type: ignore[attr-defined]
        with seeded(task.key("decoders")):
            self.restorer = Restorer(backbone.token_width, width, s.depth, 2 * backbone.patch)  # type: ignore[operator]
            self.drawer = Drawer(backbone.token_width, width, s.drawing, s.pixels)

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, backbone = self.settings, self.student.backbone
        view = everything.view("masked", ratio=s.ratio, patch=backbone.patch, base=s.view)
        cloud, masked = view.inputs["points"], view.masked
        assert masked is not None
        seen = backbone(view.inputs, masked, drop=True)
        self.watched = {"features": seen.pooled.detach()}
        centres, whole = backbone.grouped(cloud)[0], self.whole(cloud)  # type: ignore[operator]
        groups = backbone.grouped(whole)[1]  # type: ignore[operator]
        hidden, _ = visible(~masked, None)
        shown = centres.gather(1, visible(masked, None)[0].unsqueeze(2).expand(-1, -1, 3))
        truth = groups.gather(1, hidden[:, :, None, None].expand(-1, -1, *groups.shape[2:]))
        restored = self.restorer(seen.tokens, centres, masked, hidden)
        angles = [2 * math.pi * number / s.poses for number in range(s.poses)]
        inside = whole / whole.square().sum(-1).amax(1)[:, None, None].sqrt()  # views stretch, and an image shows the unit sphere
        drawn = [(self.drawer(seen.tokens, shown, angle) - maths.depth_image(inside, angle, self.vertical, s.pixels)).square().mean((1, 2)) for angle in angles]
        return {"points": s.points * maths.chamfer(restored, truth).mean(1), "depth": s.weight * torch.stack(drawn).mean(0)}

    def whole(self, cloud: Tensor) -> Tensor:
        """The clouds ``[B, N, 3]`` whose points are to be restored and whose depths are to be drawn."""
        return cloud


class Restorer(nn.Module):
    """From the tokens of what is left and the centres of what is not to its points."""

    def __init__(self, entering: int, width: int, depth: int, points: int):
        super().__init__()
        self.narrow, self.place = nn.Linear(entering, width), nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.mask = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.points = nn.LayerNorm(width), nn.Linear(width, 3 * points)
        self.blocks.apply(initialise)

    def forward(self, tokens: Tensor, centres: Tensor, masked: Tensor, hidden: Tensor) -> Tensor:
        """``[B, V, D]``, ``[B, T, 3]``, bool ``[B, T]``, int64 ``[B, M]`` -> points of the hidden groups ``[B, M, P, 3]``, as seen from their centres."""
        left, _ = visible(masked, None)
        x, places = self.narrow(tokens), self.place(centres)
        width = x.shape[-1]
        x = torch.cat(
            [x + places.gather(1, left.unsqueeze(2).expand(-1, -1, width)), self.mask + places.gather(1, hidden.unsqueeze(2).expand(-1, -1, width))], 1
        )
        for block in self.blocks:
            x = block(x)
        return self.points(self.norm(x[:, left.shape[1] :])).unflatten(2, (-1, 3))


class Drawer(nn.Module):
    """From the tokens of what is left and a side to look from to a depth image."""

    patch = 4

    def __init__(self, entering: int, width: int, depth: int, pixels: int):
        super().__init__()
        self.side = pixels // self.patch
        self.narrow, self.place = nn.Linear(entering, width), nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.pose = nn.Linear(2, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.norm, self.depths = nn.LayerNorm(width), nn.Linear(width, self.patch**2)
        self.blocks.apply(initialise)

    def forward(self, tokens: Tensor, centres: Tensor, angle: float) -> Tensor:
        """``[B, V, D]`` and where they are ``[B, V, 3]`` -> ``[B, pixels, pixels]``."""
        x = self.narrow(tokens) + self.place(centres)
        pose = self.pose(x.new_tensor([math.cos(angle), math.sin(angle)]))
        asked = (sinusoid_grid(self.side, self.side, x.shape[-1], x.device).to(x.dtype) + pose).expand(len(x), -1, -1)
        x = torch.cat([asked, x], 1)
        for block in self.blocks:
            x = block(x)
        patches = self.depths(self.norm(x[:, : self.side**2]))
        return maths.unpatchify(patches, self.patch, self.side * self.patch, self.side * self.patch)[:, 0]
