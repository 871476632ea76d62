"""MEAL V2: a model that has learned its labels learns anew what several teachers say of the same crop, and no label."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.models.backbone import seeded
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="meal-v2",
    id="s134",
    title="MEAL V2: Boosting Vanilla ResNet-50 to 80%+ Top-1 Accuracy on ImageNet without Tricks",
    paper="2009.08453",
    year=2020,
    family="kd-logit",
    modalities=("image", "text", "table"),
    needs="teacher",
    idea="The student starts from weights that have learned the labels, and goes on with one target: the average of what several frozen teachers say about the very "
    "view that it sees, at temperature 1. Labels add nothing to such targets and are left out, as is weight decay. A small discriminator tries to tell the "
    "student's logits from the teachers', which is meant to regularise and does little.",
    equations=(
        "q = mean over teachers of softmax(z_teacher(v)), p = softmax(z(v))",
        "loss = KL(q || p) + weight (BCE(1, D(log q)) + BCE(0, D(z)))",
        "D: three linear layers, C -> C / 8 -> C / 64 -> 1; the student's gradient through D is reversed (adversarial) or not (as released)",
    ),
    unknown="The released code minimises the discriminator's loss for both sides, without reversal, so that the student helps it; the paper calls it adversarial, "
    "which is the default here. The discriminator has two outputs there and one here. Several teachers are averaged by the ensemble that is given.",
)


class MEALV2Settings(Settings):
    """Settings of ``meal-v2``."""

    discriminator: float = Field(1.0, ge=0, description="weight of the discriminator's loss (released code: 1); 0 leaves it out")
    adversarial: bool = Field(True, description="reverse the student's gradient through the discriminator (2009.08453, section 3; released code does not)")
    view: Literal["plain", "weak", "strong", "crop"] = Field(
        "weak", description="what teachers and student all see of a sample (2009.08453, section 3: one crop)"
    )


class MEALV2(Objective):
    """Soft labels of an ensemble, and a discriminator."""

    card = card
    Settings = MEALV2Settings
    defaults = {"optim.name": "sgd", "optim.lr": 0.01, "optim.momentum": 0.9, "optim.weight_decay": 0.0}

    def build(self, task: Task) -> None:
        self.classify(task)
        assert task.teacher is not None, "checked by needs"
        self.teacher = task.teacher
        widths = [len(task.classes), max(1, len(task.classes) // 8), max(1, len(task.classes) // 64), 1]
        if self.settings.discriminator:
            with seeded(task.key("discriminator")):
                layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
                self.discriminator = nn.Sequential(*layers[:-1])

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, view = self.settings, everything.view(self.settings.view)
        q, z = self.teacher(everything, view).soft(), self.student(view.inputs)
        self.watched = {"student": z.detach().softmax(-1)}
        told = q.sum(-1) > 0  # who abstained gave zeros, and teaches nothing
        terms = {"teachers": everything.weighted(torch.where(told, maths.kl(teacher_logits=q.log(), student_logits=z), 0.0))}
        if s.discriminator:
            theirs, own = q.clamp_min(1e-6).log(), z.log_softmax(-1)
            own = maths.reversed_gradient(own) if s.adversarial else own
            terms["discriminator"] = s.discriminator * everything.weighted(told * maths.told_apart(self.discriminator(theirs), self.discriminator(own)))
        return terms
