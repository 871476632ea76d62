"""MAE: hide most of a sample, and predict what was hidden from the rest."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy.data.samples import Batch
from understudy.models.reconstruct import decoder_for
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="mae",
    id="core",
    title="Masked Autoencoders Are Scalable Vision Learners",
    paper="2111.06377",
    year=2022,
    family="ssl-masked",
    modalities=("image", "table", "series", "audio", "graph"),
    needs="nothing",
    idea="Most patches of an image (or some cells of a row) are hidden, and a small decoder predicts them from what the backbone makes of the visible ones. "
    "A vision transformer never sees the hidden patches, so that it is spared their computation; a CNN sees them painted over with a learned colour, "
    "a table's transformer a mask, and their decoders are linear.",
    equations=(
        "m = round(ratio * T) random positions of T",
        "t_p = (x_p - mean(x_p)) / sqrt(var(x_p) + 1e-6) for a patch p; the number itself, or the category, for a cell",
        "loss = 1/m sum_{p hidden} |decoder(backbone(x without the hidden))_p - t_p|^2; cross-entropy for categories",
    ),
    unknown="The paper is about vision transformers. CNNs follow SimMIM (2111.09886): masked in place and a linear decoder. So do tables, whose ratio "
    "is ours: 200 steps on 569 rows "
    "of 30 numbers left a held-out error of 0.67 with the cells masked in place, and 1.09 with them left out. Where patches are left out, the decoder "
    "starts from their places alone, and it takes "
    "some hundred steps before it uses the backbone at all.",
)


class MAESettings(Settings):
    """Settings of ``mae``."""

    ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the positions hidden; null: 0.75 of an image's patches (2111.06377, section 4.1), 0.3 of a row's cells, 0.4 of a series, half of a sound.",
    )
    normalised: bool = Field(True, description="Images: standardise each patch of the target by its own mean and deviation (2111.06377, section 3).")
    view: Literal["plain", "weak", "crop"] = Field(
        "weak", description="What the mask is laid over; the paper takes crop (2111.06377, appendix A.1), which only images have."
    )
    depth: int = Field(2, ge=1, description="Blocks of the decoder, where the hidden positions are left out (2111.06377, section 4.1: 8 for ViT-L).")


class MAE(Objective):
    """Reconstruction of what is hidden."""

    card = card
    Settings = MAESettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.05, "optim.beta2": 0.95, "optim.warmup": 0.05}

    def build(self, task: Task) -> None:
        backbone = self.student.backbone
        self.drop = backbone.drops and backbone.modality == "image"
        self.decoder = decoder_for(backbone, task.key("decoder"), dropped=self.drop, depth=self.settings.depth, normalised=self.settings.normalised)
        ratio = self.settings.ratio or {"image": 0.75, "table": 0.3, "series": 0.4, "audio": 0.5, "graph": 0.3}[backbone.modality]
        self.masking = {"ratio": ratio, "base": self.settings.view} | ({"patch": backbone.patch} if backbone.modality not in ("table", "graph") else {})

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view = everything.view("masked", **self.masking)
        visible = self.student.backbone(view.inputs, view.masked, drop=self.drop)
        return {"reconstruction": self.decoder(visible, view)}
