"""The middle stage of UNFUSED: a fresh network learns the clusters of another one's features, and its depths teach its shallows."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.backbone import pooled_mean, seeded
from understudy.models.taps import Taps, tokens
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="unfused-clusters",
    id="s010",
    title="UNFUSED: UNsupervised Finetuning Using SElf supervised Distillation: the unsupervised fine-tuning",
    paper="2303.05668",
    year=2023,
    family="ssl-cluster",
    modalities=("audio", "image"),
    needs="labels",
    idea="The labels are clusters that another network found. The last layer learns them, and so do small heads on the layers before it, which also learn what the last layer "
    "says. The heads are thrown away afterwards.",
    equations=(
        "loss = CE(y, q) + a sum_i CE(y, q_i) + b sum_i KL(softmax q || softmax q_i) + c sum_i |q_i - q|^2 / classes, q the last layer's logits, q_i those of head i",
    ),
    unknown="The released code takes the gradient through q in the last two terms, so that the depths also follow the shallows, and its heads are wider than there are clusters; "
    "here q is a target only.",
)


class UnfusedClustersSettings(Settings):
    """Settings of ``unfused-clusters``."""

    exits: int = Field(3, ge=0, description="heads, on the last blocks before the last one, as far as there are any (released code: 3)")
    labels: float = Field(0.7, ge=0, description="a, weight of the heads' cross-entropy (released code: 0.7)")
    answers: float = Field(0.3, ge=0, description="b, weight of the divergence from the last layer's answer (released code: 0.3)")
    logits: float = Field(0.003, ge=0, description="c, weight of the squared distance of the logits (released code: 0.003)")


class UnfusedClusters(Objective):
    """Labels for every depth, and the deepest answer for the others."""

    card = card
    Settings = UnfusedClustersSettings
    defaults = {"optim.weight_decay": 1e-4, "train.batch": 64}
    reads = {"labelled": 1}

    def build(self, task: Task) -> None:
        self.classify(task)
        backbone = self.student.backbone
        depth = len(getattr(backbone, "blocks", ()))
        if depth < 2:
            raise UserError(
                f"unfused-clusters puts heads between the blocks of a model, and {self.student.spec['name']} has none; choose one such as small-audio"
            )
        self.tapped = [f"backbone.blocks.{block}" for block in range(max(0, depth - 1 - self.settings.exits), depth - 1)]
        widths = self.block_widths(task)
        with seeded(task.key("exits")):
            self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(w), nn.Linear(w, w), nn.GELU(), nn.Linear(w, len(task.classes))) for w in widths)

    def block_widths(self, task: Task) -> list[int]:
        """How wide the outputs of the tapped blocks are."""
        modality = task.train.modality
        with torch.no_grad(), Taps(self.student, self.tapped) as taps:
            self.student.eval().features(modality.view(modality.examples(2), "plain", torch.arange(2)).inputs)
        return [tokens(taps[block]).shape[-1] for block in self.tapped]

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, target = self.settings, labelled.soft_labels()
        with Taps(self.student, self.tapped) as taps:
            features = self.student.features(labelled.view("weak").inputs)
        last = self.student.logits(features)
        self.watched = {"student": last.detach().softmax(-1)}
        terms = {"clusters": maths.soft_cross_entropy(last, target)}
        for head, block in zip(self.heads, self.tapped, strict=True):
            seen = tokens(taps[block])
            padding = features.padding if features.tokens.shape[1] == seen.shape[1] else None  # a map that is not thinned yet has other positions
            said = head(pooled_mean(seen, padding))
            answers = maths.kl(teacher_logits=last, student_logits=said)
            distance = maths.squared_distance(said, last) / last.shape[-1]
            terms[block] = s.labels * maths.soft_cross_entropy(said, target) + s.answers * answers + s.logits * distance
        return {name: labelled.weighted(term) for name, term in terms.items()}
