"""KD on pruned data: the teacher has learned everything, the student sees a part, and the less it sees the more it listens to the teacher."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from understudy import keyed, maths
from understudy.data.samples import Batch, Samples
from understudy.engine import distribution
from understudy.systems.base import Card
from understudy.systems.kd_logit.kd import KD, KDSettings

card = Card(
    slug="kd-data-pruning",
    id="s039",
    title="Distilling the Knowledge in Data Pruning",
    paper="2403.07854",
    year=2024,
    family="kd-logit",
    modalities=("image", "text", "table"),
    needs="labels and teacher",
    idea="A teacher that was trained on all samples teaches a student on a part of them, by softened probabilities besides the labels. It brings back what pruning "
    "took away, so that a part drawn at random does as well as one chosen with care. The share of the teacher in the loss rises as samples are left out.",
    equations=(
        "S = the share f of the labelled samples: at random, or those with the largest (hard) or smallest (easy) score |q - y|",
        "loss = (1 - w f) T^2 KL(q_T || p_T) + w f CE(y, p) on S, w the labels' share where nothing is left out",
    ),
    unknown="Only the abstract could be read. That the labels' share falls in proportion to f is our rule for the paper's finding that the best one falls. The score "
    "is EL2N (2107.07075) of the given teacher; there it is the mean over networks after a few epochs.",
)


class KDDataPruningSettings(KDSettings):
    """Settings of ``kd-data-pruning``."""

    fraction: float = Field(0.3, gt=0, le=1, description="f, share of the labelled samples that is kept (2403.07854: from 0.1 up)")
    keep: Literal["random", "hard", "easy"] = Field(
        "random", description="which are kept, by the teacher's error (2403.07854: random is as good, with a teacher)"
    )
    label_weight: float = Field(0.5, ge=0, le=1, description="w, share of the labels in the loss where nothing is left out; it falls in proportion to f (ours)")


class KDDataPruning(KD):
    """Matching softened probabilities on a part of the samples."""

    card = card
    Settings = KDDataPruningSettings
    reads = {"labelled": 1}

    @property
    def label_weight(self) -> float:
        return self.settings.label_weight * self.settings.fraction  # type: ignore[no-any-return]

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        return super().losses(everything=labelled)

    def samples(self) -> dict[str, Samples]:
        """The part that is kept."""
        known = super().samples()["labelled"]
        match self.settings.keep:
            case "random":
                score = keyed.uniform(keyed.fold(self.task.key("prune"), known.keys))
            case "hard":
                score = self.error(known)
            case _:
                score = -self.error(known)
        return {"labelled": known.take(maths.select_top(score, self.settings.fraction))}

    def error(self, samples: Samples) -> Tensor:
        """|q - y|^2 of every sample, ``[N]``."""
        device = distribution.start(self.task.settings.device)
        self.teacher.to(device)
        q = torch.cat([self.teacher(batch, batch.view("plain")).soft().cpu() for batch in samples.batches(512, device)])
        return maths.squared_distance(q, one_hot(samples.labels, len(samples.classes)).float())
