"""The second stage of SDFP: masked reconstruction, with the features of whole samples tied to those of a further pre-trained teacher."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.systems.ssl_masked.mae import MAE
from understudy.systems.ssl_masked.mlm import MLM

card = Card(
    slug="sdfp-student",
    id="s001",
    title="Self-Distillation for Further Pre-training of Transformers: the student",
    paper="2210.02871",
    year=2023,
    family="sd",
    modalities=("image", "text", "table"),
    needs="teacher",
    idea="The student learns to fill in what is hidden and, on the same samples in full, to give the pooled features of a frozen teacher of its own shape.",
    equations=("loss = mae or mlm (x) + weight * |pooled(x) - sg(pooled_teacher(x))|^2, summed over the features, x unmasked",),
)


class SDFPStudentSettings(Settings):
    """Settings of ``sdfp-student``."""

    weight: float = Field(
        1.0, ge=0, description="Weight of the squared distance to the teacher's features, a sum over all of them (2210.02871, section 3.2: 1)."
    )
    ratio: float | None = Field(None, gt=0, lt=1, description="Share of the positions hidden; null: what mae and mlm take.")


class SDFPStudent(Objective):
    """Masked reconstruction next to feature self-distillation."""

    card = card
    Settings = SDFPStudentSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.01, "optim.beta2": 0.95, "train.batch": 64}

    def build(self, task: Task) -> None:
        masked = MLM if MLM.card.takes(task.train.modality.name) else MAE
        self.masked = masked(masked.Settings(**({} if self.settings.ratio is None else {"ratio": self.settings.ratio})), task)
        self.student = self.masked.student
        assert task.teacher is not None, "checked by needs"
        self.teacher = task.teacher

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        whole = everything.view("plain")
        pooled = self.student.features(whole.inputs).pooled
        self.watched = {"features": pooled.detach()}
        target = self.teacher(everything, whole).pooled
        if target is None:
            raise UserError("sdfp-student compares features, and its teacher gives none: give a model, with --teacher run:FOLDER")
        return {**self.masked.losses(everything), "distance": self.settings.weight * maths.squared_distance(pooled, target)}
