"""DeeperCluster: a network that knows rotations clusters its own features, learns the clusters of turned images, and clusters again."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan

card = Card(
    slug="deepercluster",
    id="s491",
    title="Unsupervised Pre-Training of Image Features on Non-Curated Data",
    paper="1905.01278",
    year=2019,
    family="ssl-cluster",
    modalities=("image",),
    needs="nothing",
    idea="Pre-training begins with telling by how many degrees an image was turned. Then rounds: the features of all images are clustered on two levels, and the network "
    "learns to say rotation and cluster together, with fresh classifiers every time. What comes out is a backbone to fine-tune on labels.",
    equations=(
        "f_0 = argmin CE(r, V f(turned(x, r)))",
        "c, s = two levels of k-means of f_(t-1)(x), x upright",
        "f_t = argmin CE((c, r), V f(turned(x, r))) + CE(s, W_(c, r) f(turned(x, r))), from f_(t-1), V and W anew",
    ),
    unknown="How long the pre-training on rotations takes in proportion is ours, as is the number of rounds: released code has about 33, of three epochs each. The learning "
    "rate starts anew with every round, where released code keeps it. Images are clustered as they are, without a Sobel filter.",
)


class DeeperClusterSettings(Settings):
    """Settings of ``deepercluster``; those of a round are ``deepercluster-round``."""

    rounds: int = Field(5, ge=1, description="how often clusters are assigned (released code: every 3 of 100 epochs)")
    rotation_share: float = Field(0.2, gt=0, lt=1, description="share of the steps, or of the time, for rotations alone; the rounds divide the rest evenly (ours)")  # fmt: skip
    super_clusters: int = Field(4, ge=1, description="first level (released code: 16 super-classes, that is 4 for each of four rotations)")
    clusters: int = Field(32, ge=1, description="at most, of each super-cluster (1905.01278, section 5: 320,000 in all for 96 million images)")
    crop_scale: tuple[float, float] = Field((0.08, 1.0), description="area of the crops that are learned from, as a share of the image (released code: 0.08 to 1)")  # fmt: skip


class DeeperCluster(Plan):
    """Rotations, then clusters and rotations."""

    card = card
    Settings = DeeperClusterSettings
    defaults = {"train.batch": 128}

    def run(self) -> Outcome:
        s, history = self.settings, []
        rotations = {"super_clusters": 1, "clusters": 1, "crop_scale": s.crop_scale}
        student = self.stage("rotations", "deepercluster-round", self.task.student, settings=rotations, common=self.share(s.rotation_share)).student
        levels = {"super_clusters": s.super_clusters, "clusters": s.clusters, "crop_scale": s.crop_scale}
        share = self.share((1 - s.rotation_share) / s.rounds)
        for round in range(1, s.rounds + 1):
            outcome: Any = self.stage(f"round-{round}", "deepercluster-round", student, settings=levels, common=share)
            student = outcome.student
            history.append(outcome.facts)
        return Outcome(student, {"rounds": history})
