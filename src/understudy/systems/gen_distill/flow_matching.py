"""Flow matching: a network learns the direction from every image to noise, and so the way back."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from understudy import collective, keyed, maths
from understudy.data.samples import Batch
from understudy.models import painting
from understudy.models.backbone import Features
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="flow-matching",
    id="core",
    title="Flow Matching for Generative Modeling",
    paper="2210.02747",
    year=2023,
    family="gen-distill",
    modalities=("image",),
    needs="nothing",
    idea="Every image is joined to random noise by a straight line. The network sees a point on it and the time, and learns in which direction the line runs; followed backwards "
    "from fresh noise, these directions lead to a new image. What it learned on the way is features. The student is a diffusion transformer (tiny-dit, small-dit).",
    equations=(
        "x_t = (1 - t) x + t e, e ~ N(0, 1), t ~ U(0, 1)",
        "loss = |v(x_t, t) - (e - x)|^2 / pixels",
        "x <- x - v(x, t) / steps, from t = 1 to 0",
    ),
    unknown="The line is that of rectified flow (2209.03003) and SiT (2401.08740), the optimal transport path of the paper with its least noise at 0. Classes are not told.",
)


class FlowMatchingSettings(Settings):
    """Settings of ``flow-matching``."""

    momentum: float = Field(
        0.99, ge=0, lt=1, description="share of itself that the average of the weights, which is the result, keeps at a step (SiT, 2401.08740: 0.9999)"
    )
    steps: int = Field(50, ge=1, description="steps from noise to image for the pictures in samples.png (2401.08740, section 4: 250)")


class FlowMatching(Objective):
    """Regression onto straight lines."""

    card = card
    Settings = FlowMatchingSettings
    defaults = {"optim.lr": 2e-3, "optim.weight_decay": 0.0, "optim.warmup": 0.05, "train.batch": 64}

    def check(self, task: Task) -> None:
        super().check(task)
        painting.painter(task.student, self.card.slug)

    def build(self, task: Task) -> None:
        self.student = self.student.with_head((), 0)
        self.model = painting.painter(self.student)
        self.average = EMA(self.student)

    def flow(self, batch: Batch) -> tuple[Tensor, Features]:
        """The loss ``[B]`` at a time of each image's own, and what the network saw on the way."""
        clean = self.model.scaled(batch.view("plain").inputs)
        noise = keyed.normal(batch.random("noise"), clean.shape[1:])
        t = keyed.uniform(batch.random("time"))
        v, seen = self.model.velocity(maths.flow.noised(clean, noise, t), t)
        return (v - maths.flow.velocity(clean, noise)).square().mean((1, 2, 3)), seen

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        loss, seen = self.flow(everything)
        self.watched = {"features": seen.pooled.detach()}
        return {"flow": everything.weighted(loss)}

    def after_step(self) -> None:
        self.average.update(self.student, maths.schedules.ema_warmup(self.step, self.settings.momentum))

    def result(self) -> Student:
        return self.average.student.requires_grad_(True)  # type: ignore[no-any-return]

    def facts(self) -> dict[str, Any]:
        """Sixteen images, as samples.png in the run's folder."""
        if collective.rank() == 0:
            keys = torch.as_tensor(keyed.fold(self.task.key("samples"), torch.arange(16)))
            painting.sheet(painting.paint(self.result(), keys, self.settings.steps)).save(self.task.run.folder / "samples.png")
        return {}
