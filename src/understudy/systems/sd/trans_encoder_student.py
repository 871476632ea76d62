"""The learner inside Trans-Encoder: an encoder that reads pairs of texts together or apart, and learns given scores of them."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.modalities.text_pair import texts_of
from understudy.data.samples import Batch
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="trans-encoder-student",
    id="s014",
    title="Trans-Encoder: Unsupervised sentence-pair modelling through self- and mutual-distillations: the two encoders",
    paper="2109.13059",
    year=2022,
    family="sd",
    modalities=("text",),
    needs="labels",
    idea="Read together, the two texts of a pair are one text, and a classifier says how alike they are. Read apart, each has features, and their cosine says it.",
    equations=("together: loss = -y log g(a, b) - (1 - y) log(1 - g(a, b))", "apart: loss = (cos(f(a), f(b)) - y)^2"),
)


class TransEncoderStudentSettings(Settings):
    """Settings of ``trans-encoder-student``."""

    reads: Literal["together", "apart"] = Field("together", description="cross-encoder or bi-encoder (2109.13059, sections 2.2 and 2.3)")


class TransEncoderStudent(Objective):
    """Soft labels of pairs, whose last class is that of pairs that are alike."""

    card = card
    Settings = TransEncoderStudentSettings
    defaults = {"train.batch": 64, "optim.warmup": 0.1}
    reads = {"labelled": 1}

    def check(self, task: Task) -> None:
        super().check(task)
        texts_of(task.train)

    def build(self, task: Task) -> None:
        if self.settings.reads == "together":
            self.classify(task)
        else:
            self.student = self.student.with_head((), 0)

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        scores = labelled.soft_labels()
        if self.settings.reads == "together":
            return {"scores": labelled.weighted(maths.soft_cross_entropy(self.student(labelled.view("turned").inputs), scores))}
        first, second = (self.student.features(labelled.view(name).inputs).pooled for name in ("first", "second"))
        self.watched = {"features": first.detach()}
        return {"scores": labelled.weighted((F.cosine_similarity(first, second) - scores[:, -1]).square())}
