"""DistilHuBERT: a few first layers of the teacher, copied, learn to say what later layers of it say."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.architecture import backbone_of
from understudy.models.backbone import pooled_mean, seeded
from understudy.models.student import Student
from understudy.models.transformer import Transformer
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import Frozen

card = Card(
    slug="distilhubert",
    id="s364",
    title="DistilHuBERT: Speech Representation Learning by Layer-wise Distillation of Hidden-unit BERT",
    paper="2110.01900",
    year=2022,
    family="kd-feature",
    modalities=("audio",),
    needs="teacher",
    idea="The student is the teacher's own architecture with two blocks, which start as copies of the teacher's first two, as everything before them does. On its last "
    "tokens stand small heads, one for each of some layers of the teacher, and each learns to give that layer's tokens. The heads are thrown away afterwards: "
    "the student's tokens hold what all of them need.",
    equations=("loss = mean over taught layers l and places t of |h_l(z_t) - T_l,t|_1 / D + w (-log sigmoid cos(h_l(z_t), T_l,t))",),
    unknown="The paper's heads were one linear map in its text and two with a GELU between in the released code, as here; its abstract names layers 4, 8 and 12 of HuBERT, and the "
    "released settings 4 and 12. Targets are the blocks' outputs as they are.",
)


class DistilHuBERTSettings(Settings):
    """Settings of ``distilhubert``."""

    layers: int = Field(2, ge=1, description="blocks of the student (2110.01900, section 3: 2 of 12)")
    taught: tuple[int, ...] | None = Field(
        None, description="blocks of the teacher, counted from 1, that heads learn; null: at a third, two thirds and the end (2110.01900, section 3: 4, 8, 12)"
    )
    cosine: float = Field(1.0, ge=0, description="w, weight of the angle (2110.01900, section 3: 1)")
    copied: bool = Field(True, description="whether the student starts as the teacher's first blocks (2110.01900, section 3)")
    view: Literal["plain", "weak"] = Field("plain", description="what both sides hear (2110.01900: the sound as it is)")


class DistilHuBERT(Objective):
    """Heads on one layer for many."""

    card = card
    Settings = DistilHuBERTSettings
    defaults = {"optim.lr": 2e-4, "optim.weight_decay": 1e-6, "optim.beta2": 0.98, "optim.warmup": 0.07, "optim.schedule": "linear", "train.batch": 24}

    def build(self, task: Task) -> None:
        s = self.settings
        if not isinstance(task.teacher, Frozen) or not isinstance(task.teacher.model, Student):
            raise UserError("distilhubert looks inside its teacher, which must be a model: give --teacher run:FOLDER")
        model = task.teacher.model
        theirs: Transformer = model.backbone  # type: ignore[assignment]
        if not isinstance(theirs, Transformer) or model.spec["name"] != self.student.spec["name"] or theirs.width != self.student.backbone.width:
            raise UserError(
                f"the student starts as the first blocks of the teacher, {model.spec['name']}, and must be the same transformer; give --student {model.spec['name']}"
            )
        if model.modality.signature() != task.train.modality.signature():
            raise UserError(
                "distilhubert compares token by token, and its teacher was trained on sounds of another length or rate; train both on the same data"
            )
        depth = len(theirs.blocks)
        taught = s.taught or tuple(dict.fromkeys(max(1, round(depth * third / 3)) for third in (1, 2, 3)))
        if s.layers > depth or not all(1 <= block <= depth for block in taught):
            raise UserError(f"the teacher has {depth} blocks; distilhubert.layers={s.layers} and distilhubert.taught={taught} must be among them")
        spec = {**model.spec, "options": {**model.spec["options"], "depth": s.layers}}
        self.student = Student(backbone_of(spec, task.key("student")), self.student.modality, (), spec, task.key("student"))
        if s.copied:
            there = theirs.state_dict()
            self.student.backbone.load_state_dict({name: there[name] for name in self.student.backbone.state_dict()})
        width = theirs.token_width
        with seeded(task.key("heads")):
            self.heads = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in taught)
        self.paths = [f"backbone.blocks.{block - 1}" for block in taught]
        self.teacher = Frozen(model, layers=self.paths)

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view = everything.view(self.settings.view)
        told = self.teacher(everything, view).layers
        seen = self.student.features(view.inputs)
        self.watched = {"features": seen.pooled.detach()}
        share = 1 / len(self.paths)
        terms = {}
        for path, head in zip(self.paths, self.heads, strict=True):
            distance = maths.layer_distance(head(seen.tokens), told[path], self.settings.cosine)
            terms[path] = share * pooled_mean(distance.unsqueeze(-1), seen.padding).squeeze(-1)
        return terms
