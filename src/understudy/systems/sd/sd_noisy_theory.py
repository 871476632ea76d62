"""Self-distillation under label noise: the student trusts its teacher by more than all, and the given label by less than nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="sd-noisy-theory",
    id="s393",
    title="Understanding Self-Distillation in the Presence of Label Noise",
    paper="2301.13304",
    year=2023,
    family="sd",
    modalities=("image", "text", "table"),
    needs="labels and teacher",
    idea="A student of its teacher's architecture learns a mix of what the teacher says and of the labels on which the teacher itself was trained. Where many labels "
    "are wrong, the best share of the teacher is above one: labels then count negatively, which takes out what the teacher has still learned of their noise.",
    equations=("target = xi q + (1 - xi) y, q = softmax(z_teacher(v)), y the given label", "loss = -sum_c target_c log softmax(f(v))_c"),
    unknown="The released experiments could not be read. With xi > 1 the loss has no lower bound once a teacher gives the label less than (xi - 1) / xi: weight "
    "decay, few steps, or a backbone that stays as it is must bound it, and so the head alone is trained by default.",
)


class SDNoisyTheorySettings(Settings):
    """Settings of ``sd-noisy-theory``."""

    xi: float = Field(
        1.2, ge=0, description="share of the teacher in the target; above 1 labels count negatively (2301.13304, section 3; above 1 at 30 % noise)"
    )
    trained: Literal["head", "all"] = Field("head", description="what the student learns: a head on the backbone as it was given (logistic regression), or all")
    view: Literal["plain", "weak", "strong"] = Field("plain", description="what teacher and student both see of a sample")


class SDNoisyTheory(Objective):
    """Cross-entropy with a signed mix of teacher and label."""

    card = card
    Settings = SDNoisyTheorySettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.05}
    reads = {"labelled": 1}

    def build(self, task: Task) -> None:
        self.classify(task)
        self.student.backbone.requires_grad_(self.settings.trained == "all")
        assert task.teacher is not None, "checked by needs"
        self.teacher = task.teacher

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view = labelled.view(self.settings.view)
        q = self.teacher(labelled, view).soft()
        target = maths.progressive(labelled.soft_labels(), q, self.settings.xi)
        return {"mixed": labelled.weighted(maths.soft_cross_entropy(self.student(view.inputs), target))}
