"""REPA: a flow model's inner features of a noisy image are led to what a teacher sees in the clean one."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.heads import MLP
from understudy.systems.base import Card, Task
from understudy.systems.gen_distill.flow_matching import FlowMatching, FlowMatchingSettings
from understudy.systems.kd_feature.trg import resized

card = Card(
    slug="repa",
    id="s352",
    title="Representation Alignment for Generation: Training Diffusion Transformers Is Easier Than You Think",
    paper="2410.06940",
    year=2025,
    family="kd-feature",
    modalities=("image",),
    needs="teacher",
    idea="A flow model has to understand an image before it can say where its noise leads, and learns that slowly. Here an early block is told: through a small network its "
    "tokens, of the noisy image, must point where a frozen encoder's tokens of the clean image point. The rest of the model is free to draw.",
    equations=(
        "x_t = (1 - t) x + t e, e ~ N(0, 1), t ~ U(0, 1)",
        "h = the model's tokens after an early block, at x_t; y = the teacher's tokens of x",
        "loss = |v(x_t, t) - (e - x)|^2 / pixels + weight mean over tokens of (1 - cos(mlp(h), y))",
    ),
    unknown="The paper's projector has SiLU between its three layers, here ReLU. Where the grids differ, the student's tokens are resized to the teacher's. The block is the model's "
    "own choice (half of its depth; the paper: 8 of 28). Classes and guidance, which the paper has, are not told here.",
)


class REPASettings(FlowMatchingSettings):
    """Settings of ``repa``."""

    weight: float = Field(0.5, ge=0, description="weight of the agreement with the teacher's tokens (2410.06940, section 4.1: 0.5)")
    hidden: int = Field(256, ge=1, description="width of the projector's inner layers (2410.06940, appendix: 2048, for tokens of 768)")


class REPA(FlowMatching):
    """Flow matching with its inside aligned."""

    card = card
    Settings = REPASettings

    def build(self, task: Task) -> None:
        super().build(task)
        assert task.teacher is not None, "checked by needs"
        self.teacher = task.teacher
        one = task.train.batch(torch.arange(1))
        told = self.teacher(one, one.view("plain")).tokens
        if told is None:
            raise UserError("repa compares tokens, and its teacher gives none; give an image model, with --teacher run:FOLDER or timm:NAME")
        self.projector = MLP([self.model.width, self.settings.hidden, self.settings.hidden, told.shape[-1]], task.key("projector"), norm=False)

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        loss, seen = self.flow(everything)
        told = self.teacher(everything, everything.view("plain")).tokens
        assert told is not None, "checked in build"
        apart = maths.cosine_distance(self.projector(resized(seen.tokens, told.shape[1])), told).mean(1)
        self.watched = {"features": seen.pooled.detach()}
        return {"flow": everything.weighted(loss), "alignment": self.settings.weight * everything.weighted(apart)}
