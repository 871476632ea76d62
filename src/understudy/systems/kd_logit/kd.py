"""Knowledge distillation: the student learns the whole distribution that a teacher gives, not only its largest class."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from understudy import keyed, maths
from understudy.data.samples import Batch, View
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.stored import Stored

card = Card(
    slug="kd",
    id="core",
    title="Distilling the Knowledge in a Neural Network",
    paper="1503.02531",
    year=2015,
    family="kd-logit",
    modalities=("image", "text", "table"),
    needs="teacher",
    idea="Teacher and student see the same view; the student matches the teacher's probabilities, both softened by a temperature that lifts the small ones. "
    "Labels, where there are any, join with a small weight.",
    equations=(
        "q = softmax(z_teacher(v) / T), p = softmax(z(v) / T), v one view for both",
        "loss = (1 - w) T^2 KL(q || p) + w CE(y, softmax(z(v)))   where there is a label y",
        "loss = T^2 KL(q || p)   where there is none",
    ),
    unknown="The paper gives no standard temperature or weight; 4 and 0.1 are what later comparisons settled on. One view for both sides is the advice "
    "of 2106.05237.",
)


class KDSettings(Settings):
    """Settings of ``kd``."""

    temperature: float = Field(4.0, gt=0, description="divides both sides' logits; the term is multiplied by its square once (1503.02531, section 2)")
    label_weight: float = Field(
        0.1, ge=0, le=1, description="share of the labels' cross-entropy in the loss of a labelled sample; 0: the teacher alone (1503.02531, section 2: small)"
    )
    view: Literal["plain", "weak", "strong", "crop"] = Field(
        "weak", description="what teacher and student both see of a sample (2106.05237); labels from a store bring their own views instead"
    )


class KD(Objective):
    """Matching softened probabilities."""

    card = card
    Settings = KDSettings
    defaults = {"optim.weight_decay": 0.05}
    reads = {"everything": 1}

    def build(self, task: Task) -> None:
        self.classify(task)
        assert task.teacher is not None, "checked by needs"
        self.teacher = task.teacher

    @property
    def label_weight(self) -> float:
        """w, the share of the labels in the loss of a labelled sample."""
        return self.settings.label_weight  # type: ignore[no-any-return]

    def seen(self, batch: Batch) -> View:
        """The one view for both sides; where the teacher's labels are stored, one of the labelled views, drawn anew for every sample and step."""
        if isinstance(self.teacher, Stored):
            return self.teacher.replay(batch, keyed.integers(batch.random("stored view"), self.teacher.store.views))
        return batch.view(self.settings.view)

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view, temperature = self.seen(everything), self.settings.temperature
        q = self.teacher(everything, view).soft(temperature)
        logits = self.student(view.inputs)
        self.watched = {"student": logits.detach().softmax(-1)}
        # log q times T is the teacher's logits up to a constant, whatever kind of answer it gave. Who abstained gave zeros, and teaches nothing.
        told = q.sum(-1) > 0
        distance = torch.where(told, maths.kl(teacher_logits=q.log() * temperature, student_logits=logits, temperature=temperature), 0.0)
        weight = self.label_weight * (everything.labels >= 0)
        return {
            "teacher": everything.weighted((1 - weight) * distance),
            "labels": everything.weighted(weight * maths.soft_cross_entropy(logits, everything.soft_labels())),
        }
