"""CLIP: among all captions of the batch, an image must find its own, and a caption its image."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.clip import CLIP as Model
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="clip",
    id="s551",
    title="Learning Transferable Visual Models From Natural Language Supervision",
    paper="2103.00020",
    year=2021,
    family="ssl-contrastive",
    modalities=("image-text",),
    needs="nothing",
    idea="One network reads images, another one captions, and both end in one space. In a batch every image is to be nearest to its own caption and every caption to its own "
    "image; how sharp that choice is, is learned too. Afterwards the names of classes, written as captions, make a classifier that has seen no label.",
    equations=(
        "a = image(x) / |image(x)|, b = text(c) / |text(c)|, s = exp(scale) <= 100",
        "loss = (CE(s a b^T, own caption) + CE(s b a^T, own image)) / 2, over the captions and images of all processes",
        "class of x: argmax over names of a . mean over prompts of text(prompt(name))",
    ),
    unknown="The paper's only alteration is a random square crop of 400 million images; here images are moved a little. Its text encoder reads from left to right and ends in the last token.",
)


class CLIPSettings(Settings):
    """Settings of ``clip``."""

    view: Literal["plain", "weak", "strong"] = Field(
        "weak", description="how pairs are altered: images moved a little, or strongly, with captions thinned (2103.00020, section 2.4)"
    )
    most: float = Field(100.0, gt=1, description="the largest factor that cosines are multiplied with (2103.00020, section 2.5: 100)")


class CLIP(Objective):
    """Symmetric InfoNCE of images and captions."""

    card = card
    Settings = CLIPSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.1, "optim.warmup": 0.05, "train.batch": 128}
    coupled = True

    def build(self, task: Task) -> None:
        self.student = self.student.with_head((), 0)
        if not isinstance(self.student.backbone, Model):
            raise UserError(f"clip trains a model of images and captions, and {self.student.spec['name']} is none; use tiny-clip, small-clip or base-clip")
        self.model = self.student.backbone

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        inputs = everything.view(self.settings.view).inputs
        images, texts = self.model.images(inputs), self.model.texts(inputs)
        self.watched = {"features": images.detach()}
        return {"contrast": maths.matched_pairs(images, texts, self.model.scale.exp())}

    def after_step(self) -> None:
        self.model.scale.clamp_(max=math.log(self.settings.most))
