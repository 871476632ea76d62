"""Learning given labels and somebody's pseudo-labels side by side: what a round of self-training trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="pseudo-label",
    id="core",
    title="Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks",
    paper="ICML 2013 workshop on challenges in representation learning",
    year=2013,
    family="st",
    modalities=("image", "text", "table"),
    needs="labels",
    idea="Cross-entropy on the labels plus cross-entropy on pseudo-labels (hard or soft, weighted) that somebody gave before. Each kind has a share of "
    "every batch, so few labels are not drowned by many pseudo-labels.",
    equations=("loss = CE(y, f(x)) + weight * w_u CE(q_u, f(strong(u)))",),
)


class PseudoLabelSettings(Settings):
    """Settings of ``pseudo-label``."""

    weight: float = Field(1.0, ge=0, description="Weight of the pseudo-labelled term (alpha of the paper's equation 15, after its ramp).")
    view: Literal["plain", "weak", "strong"] = Field(
        "strong", description="What the student sees of a pseudo-labelled sample; strong noise is what lets it pass its teacher (1911.04252, section 4.1)."
    )
    momentum: float = Field(
        0.99, ge=0, lt=1, description="EMA momentum of the weights that the run yields, per step; warmed up; 0 yields the last weights themselves."
    )


class PseudoLabel(Objective):
    """Labels and pseudo-labels."""

    card = card
    Settings = PseudoLabelSettings
    defaults = {"optim.weight_decay": 0.05, "train.batch": 32}
    reads = {"labelled": 1, "pseudo": 3}

    def build(self, task: Task) -> None:
        self.classify(task)
        self.average = EMA(self.student)

    def losses(self, labelled: Batch, pseudo: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        known = maths.soft_cross_entropy(self.student(labelled.view("weak").inputs), labelled.soft_labels())
        guessed = maths.soft_cross_entropy(self.student(pseudo.view(self.settings.view).inputs), pseudo.soft_labels())
        return {"labelled": labelled.weighted(known), "pseudo": self.settings.weight * pseudo.weighted(guessed)}

    def after_step(self) -> None:
        self.average.update(self.student, maths.schedules.ema_warmup(self.step, self.settings.momentum))

    def result(self) -> Student:
        return self.average.student
