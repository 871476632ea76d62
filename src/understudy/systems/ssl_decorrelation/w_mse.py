"""W-MSE: whitened over the batch, the views of a sample are drawn together; nothing else is needed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from understudy import collective, keyed, maths
from understudy.data.samples import Batch
from understudy.engine.watch import health
from understudy.errors import UserError
from understudy.models.heads import MLP
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="w-mse",
    id="s407",
    title="Whitening for Self-Supervised Representation Learning",
    paper="2007.06346",
    year=2021,
    family="ssl-decorrelation",
    modalities=("image", "text", "table"),
    needs="nothing",
    idea="Several views of every sample pass the same network and projector. The outputs of a view are whitened over a part of the batch: mean 0 and covariance I "
    "scatter them, whatever the network does. Then only attraction is left to learn, the squared distance between the views of a sample, without negatives, "
    "momentum or predictor.",
    equations=(
        "z = projector(backbone(view(x))), w = L^-1 (z - mean), L L^T = (1 - eps) covariance + eps I, over a part of the batch",
        "loss = mean over samples and pairs of views of | w_i / |w_i| - w_j / |w_j| |^2",
        "the parts are drawn anew at every step, and several times a step",
    ),
    unknown="Released settings for small images: projector 1024 wide, outputs 64, parts of 128, batch 256; eps is 0 there, which fails where a part is not twice "
    "as large as the outputs are wide, and 1e-4 here. Parts are drawn over the batch of all processes.",
)


class WMSESettings(Settings):
    """Settings of ``w-mse``."""

    views: int = Field(2, ge=2, description="views of every sample (2007.06346, section 4: 2 and 4)")
    width: int = Field(64, ge=2, description="outputs of the projector (2007.06346, section 5.1: 64 for CIFAR, 128 for STL)")
    hidden: int = Field(1024, ge=1, description="width of the projector's inner layer (2007.06346, section 5.1: 1024)")
    parts: int = Field(2, ge=1, description="equal parts that the batch is whitened in; each must hold twice the width (2007.06346, section 3.2: 256 / 128)")
    partitions: int = Field(1, ge=1, description="how many times a step the parts are drawn (2007.06346, section 3.2: 1 for CIFAR, 4 for ImageNet)")
    normalised: bool = Field(True, description="scale whitened outputs to length 1 before their distance is taken (2007.06346, section 3)")
    eps: float = Field(1e-4, ge=0, lt=1, description="share of I in the covariance (released code: 0; 1e-4 is its author's advice where it is singular)")
    view: Literal["auto", "strong", "augmented", "weak"] = Field(
        "auto", description="how samples are altered; auto: augmented for images (2007.06346, section 5.1), strong for text and tables"
    )
    crop: float = Field(0.2, gt=0, le=1, description="augmented: smallest area of a crop, as a share of the image (2007.06346, section 5.1: 0.2)")


class WMSE(Objective):
    """Whitening and attraction."""

    card = card
    Settings = WMSESettings
    defaults = {"optim.lr": 3e-3, "optim.weight_decay": 1e-6, "optim.warmup": 0.1, "train.batch": 256}
    coupled = True

    def check(self, task: Task) -> None:
        super().check(task)
        s, batch = self.settings, task.settings.train.batch
        if batch // s.parts < 2 * s.width:
            raise UserError(
                f"w-mse whitens {batch // s.parts} samples at a time, too few for {s.width} outputs: the covariance would be singular; raise train.batch to "
                f"{2 * s.width * s.parts}, or lower w-mse.width or w-mse.parts"
            )

    def build(self, task: Task) -> None:
        s, views = self.settings, task.train.modality.views
        self.projector = MLP([self.student.backbone.width, s.hidden, s.width], task.key("projector"))
        self.view = s.view if s.view != "auto" else "augmented" if "augmented" in views else "strong"
        self.options = {"scale": (s.crop, 1.0), "blur": 0.0, "solarise": 0.0} if self.view == "augmented" else {}

    def parts(self, batch: Batch) -> list[Tensor]:
        """Indices into the global batch: every partition cut into its parts."""
        key, size = keyed.fold(batch.key, "partition", self.step), len(batch) * collective.world()
        orders = (keyed.permutation(keyed.fold(key, number), size).to(batch.device) for number in range(self.settings.partitions))
        return [part for order in orders for part in order.tensor_split(self.settings.parts)]

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s = self.settings
        z = [self.projector(self.student.features(everything.view(self.view, i, **self.options).inputs).pooled) for i in range(s.views)]
        self.watched = {"features": z[0].detach()}
        return {"attraction": maths.whitening_mse(z, self.parts(everything), s.eps, s.normalised)}

    def facts(self) -> dict[str, Any]:
        """How the last batch looked before whitening: effective rank of the outputs."""
        return health(self.watched)
