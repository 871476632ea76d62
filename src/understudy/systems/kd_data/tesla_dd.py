"""TESLA: a whole data set in a few learned images, and a student that learns from nothing else."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from safetensors.torch import load

from understudy.data.samples import InMemory, Samples
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan

card = Card(
    slug="tesla-dd",
    id="s136",
    title="Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
    paper="2211.10586",
    year=2023,
    family="kd-data",
    modalities=("image",),
    needs="labels",
    idea="A few images, one or some of every class, are learned so that a network that takes steps on them goes where networks go that learn the real data; their labels "
    "are the classes, or what those networks say. Then a student learns the images, at the rate that was learned with them. They are kept beside the model, in stages/images/distilled.safetensors.",
    equations=(
        "S = argmin over images of E |theta_N(S) - theta*|^2 / |theta_0 - theta*|^2, theta_0 and theta* from experts on the real data",
        "student: steps of plain gradient descent on mean CE(y, f(x)), at the learned rate",
    ),
    unknown="The paper's student sees augmented images. Which of its networks suits: one with a wide head and no pooling over the map, as small-convnet; residual "
    "networks with pooled features learn too slowly by plain gradient descent to be matched.",
)


class TeslaDDSettings(Settings):
    """Settings of ``tesla-dd``; those of learning the images are ``tesla-dd-images``, those of the student ``supervised``."""

    per_class: int = Field(1, ge=1, description="images of every class (2211.10586: 1, 10, 50)")
    soft: bool = Field(
        False, description="label the images by what experts say of the real ones that they began as; otherwise by class (2211.10586, section 3.3)"
    )
    images_share: float = Field(0.7, gt=0, lt=1, description="share of the steps, or of the time, for learning the images; the student gets the rest (ours)")


class TeslaDD(Plan):
    """Images, then a student."""

    card = card
    Settings = TeslaDDSettings

    def run(self) -> Outcome:
        s, start = self.settings, self.task.student
        learned = self.stage("images", "tesla-dd-images", start, settings={"per_class": s.per_class, "soft": s.soft}, common=self.share(s.images_share))
        few = self.distilled()
        plain = {"optim.name": "sgd", "optim.momentum": 0.0, "optim.weight_decay": 0.0, "optim.warmup": 0.0, "optim.schedule": "constant"}
        steps = {**plain, "optim.lr": learned.facts["rate"], "train.batch": min(100, len(few)), **self.share(1 - s.images_share)}
        student = self.stage("student", "supervised", start, train=few, settings={"view": "plain"}, common=steps).student
        return Outcome(student, learned.facts)

    def distilled(self) -> Samples:
        """The learned images, with their labels."""
        real = self.task.train
        kept: Any = load((self.task.run.inner("stages", "images").folder / "distilled.safetensors").read_bytes())
        ids = tuple(f"distilled/{self.task.classes[y]}/{i}" for i, y in enumerate(kept["labels"].tolist()))
        return Samples(real.modality, InMemory({"image": kept["image"]}), ids, kept["labels"], self.task.classes, targets=kept["targets"])
