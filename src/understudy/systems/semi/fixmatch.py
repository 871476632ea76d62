"""FixMatch: what the model is sure of on a weak view is the label of the strong view."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="fixmatch",
    id="core",
    title="FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
    paper="2001.07685",
    year=2020,
    family="semi",
    modalities=("image", "text", "table"),
    needs="labels",
    idea="The student labels a weak view of every unlabelled sample itself. Where it is confident, the hard label becomes the target of a strong view of "
    "the same sample, next to ordinary cross-entropy on the labels.",
    equations=(
        "q = softmax(f(weak(u)))",
        "loss = CE(y, f(weak(x))) + weight * 1[max q >= threshold] CE(argmax q, f(strong(u)))",
    ),
    unknown="The paper's optimiser (SGD with Nesterov momentum, rate 0.03, 64 labelled and 448 unlabelled samples a step, EMA 0.999) is made for a million "
    "steps. For the minutes "
    "of this package the defaults are AdamW, 32 and 96 samples, which make four times as many steps of the same time, and a shorter average.",
)


class FixMatchSettings(Settings):
    """Settings of ``fixmatch``."""

    threshold: float = Field(0.95, ge=0, le=1, description="Probability from which a pseudo-label counts (2001.07685, section 4).")
    weight: float = Field(1.0, ge=0, description="Weight of the unlabelled term (2001.07685, section 4).")
    momentum: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="EMA momentum of the weights that the run yields, per step, warmed up; 0 yields the last weights themselves (2001.07685, appendix B: "
        "0.999).",
    )


class FixMatch(Objective):
    """Consistency between a weak and a strong view, by confident hard labels."""

    card = card
    Settings = FixMatchSettings
    defaults = {"optim.weight_decay": 0.05, "train.batch": 32}
    reads = {"labelled": 1, "unlabelled": 3}

    def build(self, task: Task) -> None:
        self.classify(task)
        self.average = EMA(self.student)

    def losses(self, labelled: Batch, unlabelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        x, weak, strong = labelled.view("weak"), unlabelled.view("weak"), unlabelled.view("strong")
        with torch.no_grad():
            q = self.student(weak.inputs).softmax(-1)
            pseudo, sure = maths.pseudo_labels(q, self.settings.threshold)
        self.watched = {"teacher": q}
        target = torch.nn.functional.one_hot(pseudo, q.shape[-1]).float()
        return {
            "labelled": labelled.weighted(maths.soft_cross_entropy(self.student(x.inputs), labelled.soft_labels())),
            "unlabelled": self.settings.weight * sure * maths.soft_cross_entropy(self.student(strong.inputs), target),
        }

    def after_step(self) -> None:
        self.average.update(self.student, maths.schedules.ema_warmup(self.step, self.settings.momentum))

    def result(self) -> Student:
        return self.average.student
