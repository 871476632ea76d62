"""SDFP: pre-train further on the data at hand, then begin again and learn from that model as well."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from understudy import maths, systems
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan
from understudy.systems.sd.sdfp_student import SDFPStudent
from understudy.teachers.kinds import Frozen

card = Card(
    slug="sdfp",
    id="s001",
    title="Self-Distillation for Further Pre-training of Transformers",
    paper="2210.02871",
    year=2023,
    family="sd",
    modalities=("image", "text", "table"),
    needs="nothing",
    idea="A first model goes on with masked pre-training on the target data. A second one starts where the first had started, and learns the same task "
    "while its features of whole samples are pulled to those of the first.",
    equations=(
        "teacher = argmin over w, from w_init, of masked(w)",
        "student = argmin over w, from w_init again, of masked(w) + weight * |pooled_w(x) - pooled_teacher(x)|^2",
        "round t + 1: the student of round t is the teacher",
    ),
    unknown="The paper begins with published weights, decoder included. Here every stage has a fresh decoder, the same one, since saved models have "
    "none; and a backbone that was never "
    "trained may be the start, about which the paper says nothing.",
)


class SDFPSettings(Settings):
    """Settings of ``sdfp``."""

    weight: float = Field(
        1.0, ge=0, description="Weight of the squared distance to the teacher's features, a sum over all of them (2210.02871, section 3.2: 1)."
    )
    rounds: int = Field(1, ge=1, description="How often a new student starts from the first weights (2210.02871, section 3.2; one in the main results).")
    ratio: float | None = Field(None, gt=0, lt=1, description="Share of the positions hidden; null: what mae and mlm take.")
    teacher_share: float = Field(
        0.5, gt=0, lt=1, description="Share of the steps, or of the time, for the teacher; the rounds divide the rest evenly (the paper gives both as many)."
    )


class SDFP(Plan):
    """Further pre-training, then self-distillation from the same start."""

    card = card
    Settings = SDFPSettings

    def run(self) -> Outcome:
        s, start = self.settings, self.task.student
        masked = "mlm" if systems.get("mlm").card.takes(self.task.train.modality.name) else "mae"
        ratio = {} if s.ratio is None else {"ratio": s.ratio}
        # Both stages with the same optimiser, as in the paper: else their distances from the start could not be compared.
        student = self.stage("teacher", masked, start, settings=ratio, common={**SDFPStudent.defaults, **self.share(s.teacher_share)}).student
        distances: dict[str, Any] = {"teacher": self.distance(student)}
        for round in range(1, s.rounds + 1):
            share = self.share((1 - s.teacher_share) / s.rounds)
            student = self.stage(f"round-{round}", "sdfp-student", start, teacher=Frozen(student), settings={"weight": s.weight, **ratio}, common=share).student
            distances[f"round-{round}"] = self.distance(student)
        return Outcome(student, {"distance_to_start": distances})

    def distance(self, student: Student) -> float:
        """How far the backbone has gone from where all of them started."""
        return maths.parameter_distance(student.backbone.parameters(), self.task.student.backbone.parameters())
