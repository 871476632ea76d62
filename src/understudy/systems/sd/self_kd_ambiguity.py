"""Self-KD for ambiguity: the lower layers, who are less sure, tell the top how ambiguous a sample is."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.backbone import pooled_mean, seeded
from understudy.models.predict import evaluating
from understudy.models.taps import Taps, tokens
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="self-kd-ambiguity",
    id="s275",
    title="Self-Knowledge Distillation for Learning Ambiguity",
    paper="2406.09719",
    year=2024,
    family="sd",
    modalities=("text", "image", "table"),
    needs="labels",
    idea="A sample that can be read in two ways has one label, and a model that learns it becomes sure of one reading. Classifiers on the lower layers of the same "
    "model remain less sure, and the top learns their distribution besides the label. Where that distribution says that a sample is very ambiguous, the top "
    "learns it in place of the label in a last phase, which takes back confidence that was too much.",
    equations=(
        "p_l = softmax(classifier_l(mean over positions of block l)), l below the top; each learns the label: CE(y, p_l)",
        "q = mean over l of sg(p_l), a = entropy(q) / log C",
        "loss = CE(y, p) + weight KL(q || p), p the top's",
        "in the last phase, where a >= threshold: loss = KL(q || p) + weight KL(q || p)",
    ),
    unknown="Only the abstract could be read. Which lower layers teach (here the mean of all), whether their classifiers train the backbone (here they do), how "
    "ambiguity is measured (here as entropy) and from where on it is extreme, how the target is re-calibrated, and all weights are our choices.",
)


class SelfKDAmbiguitySettings(Settings):
    """Settings of ``self-kd-ambiguity``."""

    weight: float = Field(1.0, ge=0, description="weight of the lower layers' distribution besides the label (not known, ours)")
    threshold: float = Field(
        0.8, ge=0, le=1, description="a, entropy of that distribution as a share of log C, from which a sample is very ambiguous (not known)"
    )
    recalibration: float = Field(0.3, ge=0, le=1, description="share of the steps, the last ones, in which very ambiguous samples lose their label (not known)")
    view: Literal["plain", "weak", "strong"] = Field("weak", description="what the student sees of a sample")


class SelfKDAmbiguity(Objective):
    """Labels, softened by what the lower layers say."""

    card = card
    Settings = SelfKDAmbiguitySettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.05, "optim.schedule": "constant"}  # at a rate that ends at zero the last phase would move nothing
    reads = {"labelled": 1}

    def build(self, task: Task) -> None:
        self.classify(task)
        lower = len(cast(Any, getattr(self.student.backbone, "blocks", ()))) - 1
        if lower < 1:
            raise UserError("self-kd-ambiguity learns from blocks below the last, and this model has none that it shows; use a built-in model of two or more")
        self.paths = [f"backbone.blocks.{block}" for block in range(lower)]
        with evaluating(self.student), Taps(self.student, self.paths) as taps:
            self.student.features(task.train.batch(torch.arange(1)).view().inputs)
        with seeded(task.key("classifiers")):
            self.classifiers = nn.ModuleList(nn.Linear(tokens(taps[path]).shape[-1], len(task.classes)) for path in self.paths)

    @property
    def recalibrating(self) -> bool:
        """Whether the last phase has begun."""
        return self.step >= round((1 - self.settings.recalibration) * self.steps)

    def teach(self, lower: list[Tensor]) -> Tensor:
        """q, ``[B, C]``."""
        return torch.stack([maths.softened(logits, 1.0) for logits in lower]).mean(0)

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view, y = labelled.view(self.settings.view), labelled.soft_labels()
        with Taps(self.student, self.paths) as taps:
            logits = self.student(view.inputs)
        padding = view.inputs.get("padding")
        lower = [head(pooled_mean(tokens(taps[path]), padding)) for head, path in zip(self.classifiers, self.paths, strict=True)]
        q = self.teach(lower)
        self.watched = {"teacher": q, "student": logits.detach().softmax(-1)}
        distance = maths.kl(teacher_logits=q.log(), student_logits=logits)
        ambiguous = (1 - maths.certainty(q) >= self.settings.threshold) & self.recalibrating
        return {
            "labels": labelled.weighted(torch.where(ambiguous, distance, maths.soft_cross_entropy(logits, y))),
            "lower": labelled.weighted(self.settings.weight * distance),
            "classifiers": labelled.weighted(torch.stack([maths.soft_cross_entropy(p, y) for p in lower]).mean(0)),
        }
