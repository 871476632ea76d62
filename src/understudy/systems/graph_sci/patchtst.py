"""PatchTST: patches of each channel of a series are tokens, some are hidden, and a linear map rebuilds them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.reconstruct import decoder_for
from understudy.models.series import SeriesTransformer
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="patchtst",
    id="s451",
    title="A Time Series is Worth 64 Words: Long-term Forecasting with Transformers",
    paper="2211.14730",
    year=2023,
    family="graph-sci",
    modalities=("series",),
    needs="nothing",
    idea="A single step of a series says little, and the next one nearly the same: so a token is a patch of neighbouring steps, and what is hidden is whole patches, which "
    "cannot be filled in from their neighbours alone. Channels pass the same transformer one by one, each standardised within the sample. "
    "A probe or fine-tuning uses the backbone afterwards.",
    equations=(
        "x' = (x - mean(x)) / sd(x) for each channel of each sample, x'_p its patches, which do not overlap",
        "z = transformer(W x'_p + position), where a share `ratio` of the patches of every channel is replaced",
        "loss = mean over hidden p of |V z_p - x'_p|^2 / patch length",
    ),
    unknown="The released code takes mean and deviation of the whole channel, hidden patches included; here of what is visible, or they would tell of the rest, and the level "
    "is told to the transformer, since it may matter for classes. Hidden patches become a learned vector rather than zeros. Layer norms before attention, where the paper has "
    "batch norms after it. Forecasts are not offered: a student here has classes.",
)


class PatchTSTSettings(Settings):
    """Settings of ``patchtst``."""

    ratio: float = Field(0.4, gt=0, lt=1, description="share of the patches hidden in every channel (2211.14730, section 4.2: 0.4)")
    span: int = Field(1, ge=1, description="neighbouring patches that are hidden together (2211.14730: 1)")
    view: Literal["plain", "weak"] = Field("plain", description="what the patches are taken from (2211.14730: the series as it is)")


class PatchTST(Objective):
    """Rebuilding hidden patches, channel by channel."""

    card = card
    Settings = PatchTSTSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.01, "optim.warmup": 0.1, "train.batch": 64}

    def check(self, task: Task) -> None:
        super().check(task)
        if not isinstance(task.student.backbone, SeriesTransformer):
            raise UserError("patchtst hides patches of channels that are seen apart; choose a model that has such, as small-series")

    def build(self, task: Task) -> None:
        s, backbone = self.settings, self.student.backbone
        self.decoder = decoder_for(backbone, task.key("decoder"))
        self.masking = {"ratio": s.ratio, "span": s.span, "patch": backbone.patch, "base": s.view}

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view = everything.view("masked", **self.masking)
        seen = self.student.backbone(view.inputs, view.masked)
        self.watched = {"features": seen.pooled.detach()}
        return {"patches": self.decoder(seen, view)}
