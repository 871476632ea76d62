"""Doubly robust self-training: pseudo-labels for everything, corrected by how wrong they are where the truth is known."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch, View
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="dr-self-training",
    id="s179",
    title="Doubly Robust Self-Training",
    paper="2306.00265",
    year=2023,
    family="st",
    modalities=("image", "text", "table"),
    needs="labels and teacher",
    idea="A fixed teacher labels everything. The loss on its labels is corrected by the difference that the true labels make where they are known: as a control "
    "variate, it leaves the loss unbiased however bad the teacher is, and makes it as precise as with labels for everything where the teacher is right. The "
    "correction grows over training.",
    equations=(
        "loss = mean over all of l(x, t(x)) - a_t mean over labelled of l(x, t(x)) + a_t mean over labelled of l(x, y)",
        "l = cross-entropy with f(x), t(x) the teacher's label, a_t = t / T at step t of T",
    ),
    unknown="The paper's rise of a is per epoch, here per step. Both terms on labelled samples are of one view and one pass: only so is their difference zero where "
    "the teacher is right. With cross-entropy the negative term has no bound: a few labelled samples that are all fitted keep on pushing the teacher's wrong "
    "labels away, and weight decay or few steps must end it.",
)


class DRSelfTrainingSettings(Settings):
    """Settings of ``dr-self-training``."""

    correction: float = Field(1.0, ge=0, description="a at the last step, weight of the correction (2306.00265, section 2.4: 1); 0 is plain self-training")
    rise: float = Field(1.0, ge=0, le=1, description="share of the steps over which a rises from zero along a line (2306.00265, section 2.4: all)")
    soft: bool = Field(False, description="learn the teacher's whole distribution rather than its most probable class (2306.00265: classes)")
    view: Literal["plain", "weak", "strong"] = Field("weak", description="what teacher and student both see of a sample")


class DRSelfTraining(Objective):
    """Pseudo-labels with a control variate."""

    card = card
    Settings = DRSelfTrainingSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.05}
    reads = {"everything": 1, "labelled": 1}

    def build(self, task: Task) -> None:
        self.classify(task)
        assert task.teacher is not None, "checked by needs"
        self.teacher = task.teacher

    def told(self, batch: Batch, view: View) -> Tensor:
        """t(x), ``[B, C]``; zeros where the teacher abstains, which then costs nothing."""
        said = self.teacher(batch, view)
        if self.settings.soft:
            return said.soft()
        labels, _ = said.hard()
        return (labels.unsqueeze(-1) == torch.arange(len(self.task.classes), device=labels.device)).float()

    def losses(self, everything: Batch, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s = self.settings
        a = s.correction * maths.schedules.linear(self.step, round(s.rise * self.steps), 0.0, 1.0)
        view, known = everything.view(s.view), labelled.view(s.view)
        f, f_known = self.student(view.inputs), self.student(known.inputs)
        return {
            "teacher": everything.weighted(maths.soft_cross_entropy(f, self.told(everything, view))),
            "undone": -a * labelled.weighted(maths.soft_cross_entropy(f_known, self.told(labelled, known))),
            "labels": a * labelled.weighted(maths.soft_cross_entropy(f_known, labelled.soft_labels())),
        }
