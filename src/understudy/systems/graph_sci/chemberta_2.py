"""ChemBERTa-2: read molecules as texts, and learn from what software computes about each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import keyed, maths
from understudy.data.modalities.molecule import rdkit
from understudy.data.molecules import properties
from understudy.data.samples import Batch
from understudy.errors import MissingExtra
from understudy.models.backbone import seeded
from understudy.models.reconstruct import decoder_for
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="chemberta-2",
    id="s501",
    title="ChemBERTa-2: Towards Chemical Foundation Models",
    paper="2209.01712",
    year=2022,
    family="graph-sci",
    modalities=("molecule",),
    needs="nothing",
    idea="A transformer reads SMILES strings. It is pre-trained on molecules without measurements, either by predicting hidden tokens or by predicting, all at once, some "
    "two hundred properties that software computes from the structure. The second costs no labels either, and teaches more that measurements depend on.",
    equations=(
        "mtr: z_p = (property_p - mean_p) / deviation_p, loss = mean over properties p of (head(backbone(x))_p - z_p)^2",
        "mlm: M = a share `ratio` of the tokens; x~ = x with 80 % of M as [MASK], 10 % as a random token, 10 % unchanged",
        "mlm: loss = -1/|M| sum_{i in M} log softmax(decoder(backbone(x~)_i))_{x_i}",
    ),
    unknown="Mean and deviation are those of the first thousand molecules drawn; values further out than 5 deviations count as 5, since some properties have tails of "
    "many orders of magnitude, and what RDKit can not compute does not count: all three are ours. The properties are all descriptors of the RDKit at hand, "
    "a few more than the 200 of the paper, and each is computed when its molecule is first drawn. The head has one hidden layer, as RoBERTa's for classes has.",
)

STATISTICS = 1000
"""Molecules that mean and deviation of the properties are taken from."""
FURTHEST = 5.0
"""Deviations: a property further out counts as so far out."""


class ChemBERTa2Settings(Settings):
    """Settings of ``chemberta-2``."""

    objective: Literal["mtr", "mlm"] = Field("mtr", description="what is predicted: computed properties, which transfer better, or hidden tokens (2209.01712, section 3)")  # fmt: skip
    ratio: float = Field(0.15, gt=0, lt=1, description="mlm: share of the tokens chosen (2209.01712, section 3.1, as RoBERTa)")
    view: Literal["plain", "weak", "strong"] = Field("plain", description="which SMILES of a molecule is read: its own, as in the paper, or another one at every step")  # fmt: skip


class ChemBERTa2(Objective):
    """Pre-training on molecules."""

    card = card
    Settings = ChemBERTa2Settings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.01, "optim.beta2": 0.98, "optim.warmup": 0.06}

    def check(self, task: Task) -> None:
        super().check(task)
        if self.settings.objective == "mtr" and rdkit() is None:
            raise MissingExtra("molecule", "computing properties of molecules (chemberta-2.objective=mlm does without)")

    def build(self, task: Task) -> None:
        backbone = self.student.backbone
        if self.settings.objective == "mlm":
            self.decoder = decoder_for(backbone, task.key("decoder"))
            return
        drawn = keyed.permutation(task.key("statistics"), len(task.train))[:STATISTICS]
        values = properties(task.train.batch(drawn).originals())
        self.mean, self.deviation = values.nanmean(0), (values - values.nanmean(0)).square().nanmean(0).sqrt()
        """float64 ``[P]`` each, on the CPU, where the properties are computed."""
        with seeded(task.key("head")):
            self.head = nn.Sequential(nn.Linear(backbone.width, backbone.width), nn.Tanh(), nn.Linear(backbone.width, values.shape[1]))

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        if self.settings.objective == "mlm":
            view = everything.view("masked", ratio=self.settings.ratio, base=self.settings.view, bert=True)
            features = self.student.features(view.inputs)
            return {"tokens": self.decoder(features, replace(view, inputs={**view.inputs, "tokens": view.inputs["original"]}))}
        target, known = self.targets(everything)
        features = self.student.features(everything.view(self.settings.view).inputs)
        self.watched = {"features": features.pooled.detach()}
        return {"properties": maths.masked_mean((self.head(features.pooled) - target).square(), known)}

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Standardised properties float32 ``[B, P]``, and bool ``[B, P]``: which of them are known and tell molecules apart."""
        z = (properties(batch.originals()) - self.mean) / self.deviation
        known = z.isfinite()
        return (part.to(batch.device, non_blocking=True) for part in (torch.where(known, z, 0.0).clamp(-FURTHEST, FURTHEST).float(), known))  # type: ignore[return-value]
