"""A stage of TinyCLIP: the student's affinities of images and captions, within a batch, become the teacher's."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch, Inputs
from understudy.errors import UserError
from understudy.models.clip import CLIP
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import Frozen

MOST = 100.0
"""The largest factor of cosines, as in CLIP."""

card = Card(
    slug="tinyclip-stage",
    id="s075",
    title="TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance: affinity mimicking",
    paper="2309.12314",
    year=2023,
    family="kd-vlm",
    modalities=("image-text",),
    needs="teacher",
    idea="A softmax says how likely each caption of the batch is an image's, and each image a caption's. The teacher's shares are the targets: they also say which other captions would do.",
    equations=(
        "loss = m (CE(A_teacher, A_student) + CE(B_teacher, B_student)) / 2 + (1 - m) CLIP's own loss, A of captions for images, B of images for captions",
    ),
    unknown="What the paper alters in images beside CLIP's crops; here both sides see the images moved a little.",
)


class TinyCLIPStageSettings(Settings):
    """Settings of ``tinyclip-stage``."""

    mimicking: float = Field(1.0, ge=0, le=1, description="m, share of the teacher's affinities; the rest is the contrast of true pairs (released code: 1)")
    scale: float = Field(50.0, gt=1, le=MOST, description="factor of the student's cosines at the start, learned on from there (released code: 50)")
    view: Literal["plain", "weak", "strong"] = Field(
        "weak", description="how pairs are altered: images moved a little, or strongly, with captions thinned (ours)"
    )


class TinyCLIPStage(Objective):
    """Soft cross-entropy of affinities, both ways."""

    card = card
    Settings = TinyCLIPStageSettings
    defaults = {"optim.lr": 1e-4, "optim.weight_decay": 0.2, "optim.warmup": 0.05, "optim.clip": 5.0, "train.batch": 128}
    coupled = True

    def build(self, task: Task) -> None:
        self.student = self.student.with_head((), 0)
        theirs = task.teacher.model if isinstance(task.teacher, Frozen) else None
        if not isinstance(theirs, Student) or not isinstance(theirs.backbone, CLIP) or not isinstance(self.student.backbone, CLIP):
            raise UserError(
                "tinyclip-stage compares models of images and captions; give one as --teacher run:FOLDER, and tiny-clip, small-clip or base-clip as --student"
            )
        if theirs.modality.signature() != task.train.modality.signature():
            raise UserError("the teacher reads captions with another tokenizer, or images of another size, than the student; train both on the same data")
        self.teacher, self.model = task.teacher, self.student.backbone
        with torch.no_grad():
            self.model.scale.fill_(math.log(self.settings.scale))

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, inputs = self.settings, everything.view(self.settings.view).inputs
        images, texts, scale = self.model.images(inputs), self.model.texts(inputs), self.model.scale.exp()
        self.watched = {"features": images.detach()}
        return {
            "affinity": s.mimicking * maths.mimicked_pairs(images, texts, scale, teacher=self.told(inputs), teacher_scale=self.theirs.scale.exp()),
            "contrast": (1 - s.mimicking) * maths.matched_pairs(images, texts, scale),
        }

    @property
    def theirs(self) -> CLIP:
        """The teacher."""
        return self.teacher.model.backbone  # type: ignore[return-value, union-attr]

    def told(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The teacher's joint features of images and of captions."""
        with torch.no_grad():
            return self.theirs.images(inputs), self.theirs.texts(inputs)

    def after_step(self) -> None:
        self.model.scale.clamp_(max=math.log(MOST))
