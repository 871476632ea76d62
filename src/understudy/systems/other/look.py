"""LOOK: supervised pre-training that asks of a sample only that its nearest others have its label."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.models.heads import MLP
from understudy.models.queue import Queue
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="look",
    id="s094",
    title="Rethinking Supervised Pre-training for Better Downstream Transferring",
    paper="2110.06014",
    year=2022,
    family="other",
    modalities=("image", "text", "table"),
    needs="labels",
    idea="Cross-entropy pulls all samples of a class to one place and so forgets what tells them apart, which another task may need. Here the label of a sample must "
    "only be what its nearest other samples vote for: a class may lie in several places. The others are the features that a moving average of the network "
    "gave to past batches.",
    equations=(
        "f = projector(backbone(v)), bank: features of past batches by the EMA of both, without the sample itself",
        "N = the k nearest of the bank by cosine s, w_j = exp(s_j / T)",
        "loss = -log (sum over j in N with y_j = y of w_j) / (sum over j in N of w_j)",
    ),
    unknown="No code was published and the values of k, T, momentum and queue are not in what we could read: all are ours. Where no neighbour has the label, the "
    "nearest that has it joins them, since the loss would be infinite. The projector is thrown away afterwards.",
)


class LOOKSettings(Settings):
    """Settings of ``look``."""

    neighbours: int = Field(20, ge=1, description="k, nearest others that vote (not known; as many as the queue holds make it a loss on the whole class)")
    temperature: float = Field(0.1, gt=0, description="T, divides the cosines (not known)")
    queue: int = Field(
        4096, ge=1, description="past samples to choose the neighbours from (2110.06014 has a queue as in MoCo, 1911.05722; its size is not known)"
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="share of itself that the network of the bank keeps at a step (not known; 1911.05722: 0.999)")
    width: int = Field(128, ge=1, description="outputs of the projector (not known; 1911.05722: 128)")
    hidden: int = Field(512, ge=1, description="width of the projector's inner layer (not known)")
    view: Literal["plain", "weak", "strong", "crop"] = Field("weak", description="what both networks see of a sample, each its own draw")


class LOOK(Objective):
    """Leave-one-out k nearest neighbours."""

    card = card
    Settings = LOOKSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 1e-4, "train.batch": 128}
    reads = {"labelled": 1}
    coupled = True  # the queue takes a whole batch at a time

    def build(self, task: Task) -> None:
        s = self.settings
        self.projector = MLP([self.student.backbone.width, s.hidden, s.width], task.key("projector"), norm=False)
        self.past, self.past_projector = EMA(self.student), EMA(self.projector)
        self.queue = Queue(s.queue, s.width)
        self.arriving: tuple[Tensor, Tensor, Tensor] | None = None

    def others(self, batch: Batch) -> Tensor:
        """Which places of the queue hold another sample: bool ``[B, M]``. An older copy of oneself is the nearest neighbour, and teaches nothing."""
        return (batch.keys[:, None] != self.queue.keys) & self.queue.filled

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, queue = self.settings, self.queue
        with torch.no_grad():
            seen = self.past(labelled, labelled.view(s.view, 1)).pooled
            self.arriving = self.past_projector.student(seen), labelled.labels, labelled.keys
        f = self.projector(self.student.features(labelled.view(s.view, 0).inputs).pooled)
        self.watched = {"features": f.detach()}
        vote = maths.leave_one_out(f, labelled.labels, queue.features, queue.labels, self.others(labelled), s.neighbours, s.temperature)
        return {"vote": labelled.weighted(vote)}

    def after_step(self) -> None:
        assert self.arriving is not None, "losses came before"
        self.queue.push(*self.arriving)
        momentum = maths.schedules.ema_warmup(self.step, self.settings.momentum)
        for average, module in ((self.past, self.student), (self.past_projector, self.projector)):
            average.update(module, momentum)
