"""M3S: grow a few labels in stages, by what the classifier is sure of and a clustering agrees with."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field

from understudy import maths
from understudy.data.samples import Samples
from understudy.engine import distribution
from understudy.models.predict import features
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Proposals, Rounds

card = Card(
    slug="m3s",
    id="s193",
    title="Multi-Stage Self-Supervised Learning for Graph Convolutional Networks on Graphs with Few Labels",
    paper="1902.11038",
    year=2020,
    family="graph-sci",
    modalities=("graph", "image", "text", "table"),
    needs="labels",
    idea="Two convolutions carry a label two edges far, so with few labels most nodes of a graph learn nothing. In every stage the nodes that the classifier is surest "
    "of, as many of each class, are candidates for the labels. All nodes are clustered by their embeddings, and a cluster belongs to the class whose labelled nodes lie "
    "nearest on average: a candidate gets its label only where its cluster says the same. Then the network is trained again on all labels so far.",
    equations=(
        "f_0 = argmin CE(y, f(x)) on the labels L_0",
        "C_k = for every class, the t nodes outside L_k-1 of largest max f_k-1(x) among those of that class",
        "mu_c = mean embedding of the nodes of L_k-1 of class c, v_m = centroid of cluster m, class(m) = argmin_c ||v_m - mu_c||",
        "L_k = L_k-1 with {(x, c): x in C_k, argmax f_k-1(x) = c = class(cluster(x))}",
        "f_k = argmin CE(y, f(x)) on L_k",
    ),
    unknown="How many clusters, stages and nodes a stage the paper takes could not be looked up again: ours are what suited digits and blogs. Whether a stage goes on with "
    "the weights or starts again is a setting; the stages share the steps evenly. The paper also chooses the depth of the network by the number of labels; ours has two "
    "convolutions. Nothing in the method asks for a graph, so it takes other data as well.",
)


class M3SSettings(Settings):
    """Settings of ``m3s``."""

    stages: int = Field(4, ge=1, description="times the labels grow (1902.11038, algorithm 1: K)")
    grow: int | None = Field(
        None, ge=1, description="candidates of each class in a stage (1902.11038: t); null: a twentieth of the unlabelled samples, shared by the classes"
    )
    clusters: int = Field(50, ge=1, description="clusters of the embeddings; more than there are classes, and fewer where there are fewer samples")
    agree: bool = Field(
        True, description="take a candidate only where its cluster belongs to the same class; without it this is plain multi-stage self-training"
    )
    restart: bool = Field(False, description="every stage starts from the first weights, and not from those of the stage before")
    view: Literal["plain", "weak", "strong"] = Field("plain", description="what is seen of a labelled sample, as in supervised")


class M3S(Rounds):
    """Multi-stage self-training with a second opinion."""

    card = card
    Settings = M3SSettings

    @property
    def rounds(self) -> int:  # type: ignore[override]
        return int(self.settings.stages)

    def first(self) -> Student:
        self.taken = torch.full((len(self.task.train.unlabelled),), -1)
        """The labels that unlabelled samples were given so far, -1 for none."""
        return self.trained("stage-0", self.task.student, self.task.train.labelled)

    def propose(self, teacher: Student, round: int) -> Proposals:
        proposals = super().propose(teacher, round)
        agreed = self.clustered(teacher, proposals) == proposals.labels if self.settings.agree else torch.ones(len(proposals.samples), dtype=torch.bool)
        free = self.taken < 0
        classes = len(self.task.classes)
        grow = self.settings.grow or math.ceil(len(free) / 20 / classes)
        candidates = maths.select_most(proposals.confidence.masked_fill(~free, -1.0), proposals.labels, classes, grow) & free
        chosen = candidates & agreed
        self.taken[chosen] = proposals.labels[chosen]
        return proposals

    def clustered(self, teacher: Student, proposals: Proposals) -> torch.Tensor:
        """The class int64 ``[N]`` of the cluster that each proposed sample lies in."""
        device = distribution.start(self.task.settings.device)
        known = self.labelled(proposals.samples)
        embeddings, own = (features(teacher, samples, device=device) for samples in (proposals.samples, known))
        everything = torch.cat([embeddings, own])
        cluster, centroids = maths.kmeans(everything, min(self.settings.clusters, len(everything)), self.task.key("clusters"))
        means = maths.class_means(own, known.labels, len(self.task.classes))
        there = torch.bincount(known.labels, minlength=len(self.task.classes)) > 0
        return maths.aligned(centroids, means, there)[cluster[: len(embeddings)]]

    def labelled(self, pool: Samples) -> Samples:
        """The labels so far."""
        taken = self.taken >= 0
        return self.task.train.labelled.joined(pool.relabelled(self.taken).take(taken))

    def select(self, proposals: Proposals, round: int) -> Samples:
        return self.labelled(proposals.samples)

    def learn(self, selected: Samples, teacher: Student, round: int) -> Student:
        return self.trained(f"stage-{round}", self.task.student if self.settings.restart else teacher, selected)

    def trained(self, name: str, start: Student, samples: Samples) -> Student:
        return self.stage(name, "supervised", start, train=samples, settings={"view": self.settings.view}, common=self.share(1 / (self.rounds + 1))).student
