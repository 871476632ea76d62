"""Supervised fine-tuning: labels only. The control of every claim."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy.data.samples import Batch
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="supervised",
    id="control",
    title="Supervised fine-tuning",
    paper="",
    year=1986,
    family="supervised",
    modalities=("image", "text", "table", "segmentation", "detection"),
    needs="labels",
    idea="The student learns the given labels by cross-entropy. No teacher: what a system with a teacher must beat at equal time.",
    equations=("loss = -sum_c y_c log softmax(f(view(x)))_c",),
)


class SupervisedSettings(Settings):
    """Settings of ``supervised``."""

    view: Literal["plain", "weak", "strong"] = Field("weak", description="What the student sees of a sample.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Share of the target spread evenly over all classes (1512.00567, section 7).")


class Supervised(Objective):
    """Cross-entropy on labels, soft targets and sample weights where the samples carry them."""

    card = card
    Settings = SupervisedSettings
    defaults = {"optim.weight_decay": 0.05, "train.batch": 32}
    reads = {"labelled": 1}

    def build(self, task: Task) -> None:
        self.classify(task)

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        return {"cross_entropy": labelled.weighted(self.student.losses(labelled, labelled.view(self.settings.view), self.settings.label_smoothing))}
