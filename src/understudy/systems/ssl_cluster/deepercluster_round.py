"""One round of DeeperCluster: cluster what the network sees, then learn to say cluster and rotation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from understudy import keyed, maths
from understudy.data.samples import Batch, Samples
from understudy.engine import distribution
from understudy.models.backbone import seeded
from understudy.models.predict import features
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="deepercluster-round",
    id="s491",
    title="Unsupervised Pre-Training of Image Features on Non-Curated Data: a round",
    paper="1905.01278",
    year=2019,
    family="ssl-cluster",
    modalities=("image",),
    needs="nothing",
    idea="The network's own features fall into a few super-clusters and each of these into clusters. From images that are turned by 0, 90, 180 or 270 degrees a "
    "first classifier says super-cluster and rotation together, and a second one, which every such pair has for itself, says the cluster.",
    equations=(
        "z = k-means of PCA-whitened features, scaled to length 1, into m super-clusters c; then of each super-cluster into k clusters s",
        "r ~ {0, 90, 180, 270} degrees, f = relu(features(turned(crop(x), r))), y = (c, r) one of 4 m super-classes",
        "loss = w (CE(y, V f) + CE(s, W_y f)), w so that every cluster is as heavy as another",
    ),
    unknown="Released code gives every super-class processes of its own; here each image draws its rotation. It samples clusters evenly; here their samples are weighted.",
)


class DeeperClusterRoundSettings(Settings):
    """Settings of ``deepercluster-round``."""

    super_clusters: int = Field(4, ge=1, description="m, first level (released code: 16 super-classes, that is 4 for each of four rotations)")
    clusters: int = Field(
        32, ge=1, description="k, at most, of each super-cluster (1905.01278, section 5: 320,000 in all for 96 million images); 1 of 1: rotation alone"
    )
    components: int = Field(
        16, ge=1, description="principal components that are clustered, at most the features' width (released code: up to 4096, for networks that are as wide)"
    )
    crop_scale: tuple[float, float] = Field(
        (0.08, 1.0), description="area of the crops that are classified, as a share of the image (released code: 0.08 to 1)"
    )


class DeeperClusterRound(Objective):
    """Classifying one's own clusters, turned."""

    card = card
    Settings = DeeperClusterRoundSettings
    defaults = {"optim.lr": 3e-3, "optim.weight_decay": 1e-5, "train.batch": 128}

    def build(self, task: Task) -> None:
        s = self.settings
        with seeded(task.key("heads")):
            self.super_head = nn.Linear(self.student.backbone.width, 4 * s.super_clusters)
            self.heads = nn.Linear(self.student.backbone.width, 4 * s.super_clusters * s.clusters)

    def samples(self) -> dict[str, Samples]:
        """The images, each labelled with its place ``super-cluster * k + cluster``."""
        everything, s = super().samples()["everything"], self.settings
        seen = features(self.student, everything, device=distribution.start(self.task.settings.device))
        labels = hierarchy(seen, s.super_clusters, s.clusters, s.components, self.task.key("clusters"))
        self.sizes = torch.bincount(labels, minlength=s.super_clusters * s.clusters)
        return {"everything": everything.relabelled(labels, maths.balanced_weights(labels, s.super_clusters * s.clusters))}

    def turns(self, batch: Batch) -> Tensor:
        """Quarter turns of every image, int64 ``[B]``."""
        return keyed.integers(batch.random("rotation"), 4)  # type: ignore[return-value]

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, batch = self.settings, everything
        turns = self.turns(batch)
        f = self.student.features({"pixels": turned(batch.view("crop", scale=s.crop_scale).inputs["pixels"], turns)}).pooled
        self.watched = {"features": f.detach()}
        f, y, z = F.relu(f), 4 * (batch.labels // s.clusters) + turns, batch.labels % s.clusters
        own = self.heads(f).unflatten(1, (-1, s.clusters)).take_along_dim(y[:, None, None], 1).squeeze(1)
        return {
            "super": batch.weighted(F.cross_entropy(self.super_head(f), y, reduction="none")),
            "cluster": batch.weighted(F.cross_entropy(own, z, reduction="none")),
        }

    def facts(self) -> dict[str, Any]:
        """How many clusters there are, and the share of all images that the largest one holds."""
        return {"clusters": int((self.sizes > 0).sum()), "largest": float(self.sizes.max() / self.sizes.sum())}


def hierarchy(seen: Tensor, super_clusters: int, clusters: int, components: int, key: int) -> Tensor:
    """Clusters within super-clusters of features ``[N, D]``: int64 ``[N]``, super-cluster * ``clusters`` + cluster. With fewer samples there are fewer of both."""
    z = F.normalize(maths.principal(seen, min(components, seen.shape[1]), whiten=True), dim=1)
    first, _ = maths.kmeans(z, min(super_clusters, len(z)), int(keyed.fold(key, "super")), iterations=10)
    labels = first * clusters
    for c in range(super_clusters):
        members = (first == c).nonzero().squeeze(1)
        if len(members):
            labels[members] += maths.kmeans(z[members], min(clusters, len(members)), int(keyed.fold(key, c)), iterations=10)[0]
    return labels


def turned(pixels: Tensor, turns: Tensor) -> Tensor:
    """Square images ``[B, C, H, H]``, each by its number of quarter turns (int64 ``[B]``, 0 to 3)."""
    every: Any = torch.stack([pixels.rot90(k, (2, 3)) for k in range(4)])
    return every[turns, torch.arange(len(turns), device=turns.device)]  # type: ignore[no-any-return]
