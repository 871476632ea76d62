"""Trans-Encoder: a bi-encoder and a cross-encoder of the same weights teach each other in turns what pairs of texts have in common."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from understudy.data.modalities.text_pair import texts_of
from understudy.data.samples import Samples
from understudy.engine import distribution
from understudy.models.policy import student_of
from understudy.models.predict import evaluating, predict
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan, Task

card = Card(
    slug="trans-encoder",
    id="s014",
    title="Trans-Encoder: Unsupervised sentence-pair modelling through self- and mutual-distillations",
    paper="2109.13059",
    year=2022,
    family="sd",
    modalities=("text",),
    needs="nothing",
    idea="A bi-encoder made without labels says by the cosine of two texts how alike they are. A cross-encoder, which reads both at once and starts from the bi-encoder's weights, "
    "learns these scores; what it then says of the same pairs teaches the bi-encoder. Several cycles, and each form takes over the other's weights.",
    equations=(
        "y = max(0, cos(f(a), f(b))), f the bi-encoder",
        "cross-encoder: loss = -y log g(a, b) - (1 - y) log(1 - g(a, b)), on pairs in either order; g starts with the weights of f",
        "y = g(a, b)",
        "bi-encoder: loss = (cos(f(a), f(b)) - y)^2; f starts with the weights of g",
    ),
    unknown="The mutual variant, where the scores of two language models are averaged, is not here. Cosines below zero count as zero, of which the paper says nothing. The authors "
    "keep the best cycle by validation labels; here the last is the result. The start is SimCLR on the single texts, unless start=0: then the student is the bi-encoder already.",
)


class TransEncoderSettings(Settings):
    """Settings of ``trans-encoder``; those of the two learners are ``trans-encoder-student``, those of the start ``simclr``."""

    cycles: int = Field(3, ge=1, description="how often both forms are trained, one after the other (2109.13059, section 4: 3)")
    start: float = Field(
        0.4,
        ge=0,
        lt=1,
        description="share of the steps that makes the first bi-encoder by SimCLR; 0: the student is one already, such as a SimCSE model (ours)",
    )
    temperature: float = Field(0.05, gt=0, description="of the contrast at the start (SimCSE, 2104.08821, section 3: 0.05)")


class TransEncoder(Plan):
    """Bi- and cross-encoder by turns. The result is the bi-encoder, which reads single texts."""

    card = card
    Settings = TransEncoderSettings
    defaults = {"train.batch": 64}

    def check(self, task: Task) -> None:
        super().check(task)
        texts_of(task.train.take(torch.arange(0)))

    def run(self) -> Outcome:
        s, pairs = self.settings, self.task.train
        bi = self.task.student.with_head((), 0)
        if s.start:
            common = {**self.share(s.start), "optim.lr": self.task.settings.optim.lr}
            bi = self.stage("start", "simclr", bi, train=texts_of(pairs), settings={"temperature": s.temperature, "view": "weak"}, common=common).student
        part = self.share((1 - s.start) / (2 * s.cycles))
        for cycle in range(1, s.cycles + 1):
            scored = told(pairs, self.cosines(bi, pairs).clamp_min(0.0))
            cross = self.stage(f"cycle-{cycle}-cross", "trans-encoder-student", bi, train=scored, settings={"reads": "together"}, common=part).student
            scored = told(pairs, predict(cross, pairs, device=self.device).softmax(-1)[:, 1])
            bi = self.stage(f"cycle-{cycle}-bi", "trans-encoder-student", cross, train=scored, settings={"reads": "apart"}, common=part).student
        alone = student_of(bi.backbone, texts_of(pairs.take(torch.arange(0))).modality, (), bi.spec, 0)
        return Outcome(alone)

    @property
    def device(self) -> torch.device:
        return distribution.start(self.task.settings.device)

    def cosines(self, bi: Student, pairs: Samples) -> Tensor:
        """How alike the two texts of every pair are, ``[N]``."""
        bi.to(self.device)
        with evaluating(bi):
            seen = [[bi.features(batch.view(name).inputs).pooled for name in ("first", "second")] for batch in pairs.batches(512, self.device)]
        return torch.cat([F.cosine_similarity(a, b).cpu() for a, b in seen])


def told(pairs: Samples, alike: Tensor) -> Samples:
    """The pairs with scores in [0, 1] as soft labels of the classes different and alike."""
    return replace(pairs, labels=(alike > 0.5).long(), classes=("different", "alike"), targets=torch.stack([1 - alike, alike], 1), weights=None)
