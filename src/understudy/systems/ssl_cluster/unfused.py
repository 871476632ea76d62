"""UNFUSED: clusters of a pre-trained network's features are the first labels of a fresh, smaller one, before the few true labels."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator

from understudy import maths, models
from understudy.data.samples import Samples
from understudy.engine import distribution
from understudy.models.predict import features
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan

card = Card(
    slug="unfused",
    id="s010",
    title="UNFUSED: UNsupervised Finetuning Using SElf supervised Distillation",
    paper="2303.05668",
    year=2023,
    family="ssl-cluster",
    modalities=("audio", "image"),
    needs="labels",
    idea="A network is pre-trained without labels and then only used to sort the samples into clusters. A fresh, smaller network learns the clusters, its last layer teaching "
    "the ones before, and after that the few labels. So what was learned without labels reaches a network of another size.",
    equations=(
        "pretrain: g by contrast on all samples",
        "y' = k-means(g(x))",
        "clusters: f learns y' by CE(y', q) + a sum CE(y', q_i) + b sum KL(q || q_i) + c sum |q_i - q|^2, q_i of heads on earlier layers",
        "finetune: f learns the labels",
    ),
    unknown="The paper pre-trains on AudioSet with a method of its own kin to MoCo; here on the samples at hand, with simclr or mae. SGD at 0.03 and its mixup and crops are "
    "AdamW and the weak view here. Shares of the time are ours. Hiding spans of bands and moments, as the strong view of sounds does, is not what the paper alters, and it made the "
    "contrast worse than no training (claims/unfused.py): so simclr's own choice is not taken.",
)


class UnfusedSettings(Settings):
    """Settings of ``unfused``; those of the stages are ``simclr`` or ``mae``, ``unfused-clusters`` and ``supervised``."""

    pretrain: Literal["simclr", "mae"] = Field("simclr", description="what the first network learns without labels (2303.05668, section 3.1: a kind of MoCo)")
    view: Literal["auto", "strong", "weak"] | None = Field(
        None, description="how simclr alters samples; null: weak for sounds, auto for images (2303.05668, section 3.1: mixes and crops of sounds; see unknown)"
    )
    clusters: int = Field(32, ge=2, description="clusters of its features (released code: 32)")
    smaller: str = Field(
        "", description="model that learns the clusters, by name as for --model; empty: the architecture of the first (2303.05668: 40 % smaller)"
    )
    pretrain_share: float = Field(0.5, gt=0, lt=1, description="share of the steps, or of the time, for pre-training")
    clusters_share: float = Field(0.3, gt=0, lt=1, description="share of the steps, or of the time, for the clusters; the labels get what the two leave")

    @model_validator(mode="after")
    def _something_is_left(self) -> UnfusedSettings:
        if self.pretrain_share + self.clusters_share >= 1:
            raise ValueError("pretrain_share and clusters_share must leave a share for the labels: their sum is 1 or more")
        return self


class Unfused(Plan):
    """Contrast, clusters for another network, labels."""

    card = card
    Settings = UnfusedSettings

    def run(self) -> Outcome:
        s, task = self.settings, self.task
        altered = {"view": s.view or ("weak" if task.train.modality.name == "audio" else "auto")} if s.pretrain == "simclr" else {}
        encoder = self.stage("pretrain", s.pretrain, task.student, settings=altered, common=self.share(s.pretrain_share)).student
        key = task.key("smaller")
        fresh = models.build(s.smaller, task.train.modality, (), key) if s.smaller else task.student.with_head((), key).reinitialised(key)
        student = self.stage("clusters", "unfused-clusters", fresh, train=self.clustered(encoder), common=self.share(s.clusters_share)).student
        return self.stage("finetune", "supervised", student, common=self.share(1 - s.pretrain_share - s.clusters_share))

    def clustered(self, encoder: Student) -> Samples:
        """All samples, labelled with the cluster that they are in."""
        train = self.task.train
        seen = features(encoder, train, device=distribution.start(self.task.settings.device))
        count = min(self.settings.clusters, len(train))
        labels, _ = maths.kmeans(torch.nn.functional.normalize(seen, dim=1), count, self.task.key("clusters"))
        names = tuple(f"cluster {i}" for i in range(count))
        return Samples(train.modality, train.encoded, train.ids, labels, names, train.positions, train.keys)
