"""Multi-view MAE: a network that learned to restore and to draw clouds of points needs few labels to tell furniture apart."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy import models
from understudy.claims import Claim, beats, learn, probe
from understudy.data import known
from understudy.systems.ssl_masked.multiview_mae import MultiviewMAE

STEPS, LABELS = 300, 5


class Exchanged(MultiviewMAE):
    """Asked for the points and the depths of another cloud of the batch."""

    def whole(self, cloud: Tensor) -> Tensor:
        return cloud.roll(1, 0)


def run(seed: int) -> dict[str, float]:
    everything = known.furniture()
    few = known.few_labels(everything, LABELS, seed)
    told = everything.labels >= 0
    train, test = few.labelled, everything.take(told & (few.labels < 0))
    unlabelled = everything.relabelled(torch.full_like(everything.labels, -1))
    start = models.build("tiny-points", everything.modality, (), seed)

    def pretrained(system: str | type[MultiviewMAE], **settings: float) -> models.Student:
        return learn(system, start, unlabelled, seed=seed, steps=STEPS, settings=settings, train__batch=32, optim__lr=3e-3).student

    return {
        "points and depths": probe(pretrained("multiview-mae"), train, test),
        "no pre-training": probe(start, train, test),
        "points only": probe(pretrained("multiview-mae", weight=0.0), train, test),
        "depths only": probe(pretrained("multiview-mae", points=0.0), train, test),
        "points and depths of other clouds": probe(pretrained(Exchanged), train, test),
    }


claim = Claim(
    system="multiview-mae",
    says="With five labels of each kind of furniture, a linear probe is more accurate on features that were pre-trained than on untrained ones.",
    effect=("points and depths", "no pre-training"),
    run=run,
    negative=("points and depths of other clouds",),
    observed={
        "drawing depths as well beats restoring points alone": lambda f: beats(f["points and depths"], f["points only"]),
        "restoring points as well beats drawing depths alone": lambda f: beats(f["points and depths"], f["depths only"]),
    },
    data="furniture for Sweet Home 3D, 256 points of each model, 5 labels of each kind",
    minutes_budget=4,
)
