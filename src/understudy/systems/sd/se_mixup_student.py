"""The learner inside SE mixup: mixtures of two samples, whose labels its own answers soften."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from understudy import keyed, maths
from understudy.data.samples import Batch, Samples
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="se-mixup-student",
    id="s279",
    title="Self-Evolution Learning for Mixup: Enhance Data Augmentation on Few-Shot Text Classification Tasks: the mixing",
    paper="2305.13547",
    year=2023,
    family="sd",
    modalities=("text", "image", "table"),
    needs="labels",
    idea="Two samples are mixed in their pooled features. Either label is first moved towards what the model itself answers to the sample unmixed.",
    equations=(
        "y' = (1 - s) y + s softmax f(x), without a gradient",
        "loss = CE(w y'_i + (1 - w) y'_j, f(w h(x_i) + (1 - w) h(x_j))), w from Beta(a, a), h the pooled features",
    ),
)


class SEMixupStudentSettings(Settings):
    """Settings of ``se-mixup-student``."""

    smoothing: float = Field(0.2, ge=0, le=1, description="s, share of its own answer in a label (2305.13547 interpolates the two; value ours); 0: plain mixup")
    alpha: float = Field(0.4, gt=0, description="a of Beta(a, a), which mixing weights are drawn from (1710.09412, section 3.1: 0.1 to 0.4; value ours)")


class SEMixupStudent(Objective):
    """Mixup of features with instance-specific soft labels. A batch and its partners are two draws from the same samples."""

    card = card
    Settings = SEMixupStudentSettings
    defaults = {"train.batch": 32}
    reads = {"labelled": 1, "partners": 1}

    def samples(self) -> dict[str, Samples]:
        labelled = self.task.train.labelled
        return {"labelled": labelled, "partners": labelled}

    def build(self, task: Task) -> None:
        self.classify(task)

    def losses(self, labelled: Batch, partners: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        one, other = (self.student.features(batch.view("plain").inputs) for batch in (labelled, partners))
        weight = keyed.beta(labelled.random("mixup"), self.settings.alpha)
        share = weight.unsqueeze(1).to(one.pooled.dtype)
        answer = self.student.logits(one._replace(pooled=share * one.pooled + (1 - share) * other.pooled))
        self.watched = {"features": one.pooled.detach(), "student": answer.detach().softmax(-1)}
        # Cross-entropy is linear in its target: two terms tell the same as a mixed target, and each keeps the weight of its sample.
        ours, theirs = (
            batch.weighted(
                maths.soft_cross_entropy(answer, maths.progressive(batch.soft_labels(), self.student.logits(seen).softmax(-1), self.settings.smoothing))
            )
            for batch, seen in ((labelled, one), (partners, other))
        )
        return {"mixed": weight * ours + (1 - weight) * theirs}
