"""Random teachers: learning what a network says that never learned anything."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.models.heads import DinoHead
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import Frozen

card = Card(
    slug="random-teachers",
    id="s027",
    title="Random Teachers are Good Teachers",
    paper="2302.12091",
    year=2023,
    family="sd",
    modalities=("image", "text", "table"),
    needs="nothing",
    idea="The teacher is the network as it was initialised, and never moves; the student is another draw that lies near it. Both see the same unaltered sample, "
    "and the student learns the teacher's distribution over many outputs, without labels, augmentation or a moving average. Yet its features become worth more "
    "than the teacher's: what helps is the way there, on natural inputs, and not what the teacher knows.",
    equations=(
        "theta_S = ((1 - a) theta_T + a theta_fresh) / sqrt((1 - a)^2 + a^2), theta_T and theta_fresh two initialisations, backbone and head",
        "p = softmax(cosines of head(backbone(x)) with the prototypes / T)",
        "loss = -sum_k p_T log p_S",
    ),
    unknown="The teacher is the model that is given, which should be untrained. Batch normalisations of the teacher use the statistics it came with (0 and 1 at "
    "first); a backbone without them is cleaner, as their statistics alone change features. The paper's a is about 1e-10 and takes 100 epochs and more; "
    "a student that has less time hardly leaves such a teacher, and 0.5, within the range where the paper finds little difference, is ours.",
)


class RandomTeachersSettings(Settings):
    """Settings of ``random-teachers``."""

    distance: float = Field(
        0.5, gt=0, le=1, description="a, how far from the teacher the student starts, 1: independent (2302.12091, section 3: 1e-10 and up); 0 has no gradient"
    )
    temperature: float = Field(1.0, gt=0, description="T, divides both sides' cosines (released code, second configuration: 1; first: 0.04 and 0.1)")
    prototypes: int = Field(4096, ge=2, description="outputs of the head (released code: 65,536)")
    hidden: int = Field(1024, ge=1, description="width of the head's inner layers (released code: 2048)")
    bottleneck: int = Field(256, ge=1, description="outputs of the head before the prototypes, scaled to length 1 (released code: 256)")
    view: Literal["plain", "weak", "strong"] = Field("plain", description="what both see of a sample (2302.12091, section 3: the sample itself)")


class RandomTeachers(Objective):
    """Distillation from an initialisation."""

    card = card
    Settings = RandomTeachersSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.0, "train.batch": 256}

    def build(self, task: Task) -> None:
        s, width = self.settings, self.student.backbone.width
        self.teacher = Frozen(task.student.clone())
        self.teacher_head, self.head = (DinoHead(width, s.prototypes, task.key(who), s.hidden, s.bottleneck) for who in ("teacher", "fresh head"))
        self.teacher_head.requires_grad_(False)
        self.student = self.student.reinitialised(task.key("fresh"))
        self.approach(self.student.backbone, task.student.backbone)
        self.approach(self.head, self.teacher_head)

    @torch.no_grad()
    def approach(self, fresh: nn.Module, teacher: nn.Module) -> None:
        """theta_S, in place of ``fresh``."""
        for mine, theirs in zip(fresh.parameters(), teacher.parameters(), strict=True):
            mine.copy_(maths.interpolated(theirs, mine, self.settings.distance))

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view, temperature = everything.view(self.settings.view), self.settings.temperature
        pooled = self.teacher(everything, view).pooled
        assert pooled is not None, "a student says what it sees"
        with torch.no_grad():
            told = self.teacher_head(pooled)
        seen = self.student.features(view.inputs).pooled
        self.watched = {"features": seen.detach()}
        return {"teacher": maths.kl(teacher_logits=told, student_logits=self.head(seen), temperature=temperature, scale=False)}
