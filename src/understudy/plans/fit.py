"""``fit``: much data, few labels, a good model. Pre-train, fine-tune, self-train; keep what validation says helps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field
from torch import Tensor

from understudy import evaluate, maths, models, systems
from understudy.data.modalities.molecule import rdkit
from understudy.engine.loop import Collapsed
from understudy.models.detection import Detector
from understudy.models.predict import answers
from understudy.models.student import Student
from understudy.models.text import TextTransformer
from understudy.settings import Settings, parse_duration
from understudy.systems.base import Card, Outcome, Plan, Task
from understudy.teachers.base import Teacher
from understudy.teachers.kinds import Frozen

card = Card(
    slug="fit",
    id="plan",
    title="The default plan for few labels and much data",
    paper="",
    year=2026,
    family="plans",
    modalities=("image", "text", "table", "segmentation", "detection"),
    needs="labels",
    idea="Further pre-training with self-distillation on everything, fine-tuning on the labels, then rounds of self-training; a teacher and a smaller student "
    "add distillation. Each stage must help on validation, or it is dropped.",
)


OWN: dict[str, Callable[[], str]] = {"molecule": lambda: "mlm" if rdkit() is None else "chemberta-2", "points": lambda: "multiview-mae"}
"""What pre-trains the kinds of data that have a system of their own; computing properties of molecules needs RDKit."""
TEACHES = {"segmentation": "fst", "detection": "soft-teacher"}
"""What self-trains on kinds of data whose labels are drawn; fixmatch on the others."""


class SplitSettings(Settings):
    """What is held out of the labels. The same for ``fit`` and for its control, so that they can be compared."""

    validation: float = Field(0.2, gt=0, lt=1, description="Share of the labels held out to decide which stages help; never trained on.")
    test: float = Field(0.25, gt=0, lt=1, description="Share of the labels held out for the final figure where no test data are given.")


class FitSettings(SplitSettings):
    """Settings of ``fit``. The shares of the time are divided by their sum over the stages that the plan has."""

    pretrain: str = Field(
        "auto",
        description="System that pre-trains the backbone without labels; 'off' leaves it out. 'auto': chemberta-2 for molecules, multiview-mae for points, lsa for a built-in text model that has "
        "learned nothing yet, otherwise sdfp.",
    )
    selftrain: str = Field(
        "auto",
        description="System that labels the unlabelled samples and learns them; 'off' leaves it out. 'auto': fst for images with masks, soft-teacher for images with boxes, otherwise fixmatch.",
    )
    smaller: str | None = Field(None, description="Model, as --student takes them, that the result is distilled into at the end; null: none.")
    enough: int = Field(400, ge=1, description="Unlabelled samples below which nothing is pre-trained.")
    control_share: float = Field(0.1, gt=0, description="Share of the time for the control, which has the labels only.")
    pretrain_share: float = Field(0.15, gt=0, description="Share of the time for pre-training.")
    finetune_share: float = Field(0.1, gt=0, description="Share of the time for fine-tuning.")
    selftrain_share: float = Field(0.65, gt=0, description="Share of the time for self-training.")
    distill_share: float = Field(0.15, gt=0, description="Share of the time for distilling from a given teacher, and again into a smaller student.")


@dataclass(frozen=True)
class Judged:
    """A model and what validation says of it."""

    name: str
    student: Student
    accuracy: float
    brier: float
    """Mean squared error of its calibrated probabilities on validation, in [0, 2]: this decides. A few dozen answers, right or wrong, hardly tell two models
    apart; how sure each was of every answer tells more (measured in ``docs/decisions.md``). Of boxes, what average precision over all overlaps leaves to 1."""
    seconds: float

    @property
    def measure(self) -> str:
        """What decides, in words."""
        return "1 - AP50:95" if isinstance(self.student, Detector) else "Brier score"

    def helps(self, best: Judged) -> bool:
        return self.brier < best.brier


@dataclass(frozen=True)
class StageFacts:
    """One line of ``result.json``: what a stage gave."""

    name: str
    val: float | None
    """Accuracy on validation; None for a stage that yields no classifier, or that was stopped."""
    kept: bool
    seconds: float
    why: str


class Fit(Plan):
    """Pre-train, fine-tune, self-train, distil; judged by validation after every step."""

    card = card
    Settings = FitSettings

    def __init__(self, settings: FitSettings, task: Task, untaught: bool = False):
        """``untaught``: the student has learned nothing yet."""
        super().__init__(settings, task)
        self.untaught = untaught
        self.smaller = models.build(settings.smaller, task.train.modality, task.classes, task.key("smaller")) if settings.smaller else None
        self.stages: list[StageFacts] = []
        self.spent = 0.0

    def run(self) -> Outcome:
        task, shares = self.task, self.shares()
        best = control = self.judged("control", self.trained("control", "supervised", task.student))
        self.record(control, True, "labels only: what every stage must beat")

        if "pretrain" in shares and (pretrained := self.tried("pretrain", self.pretrains, task.student)):
            tuned = self.judged("fine-tune", self.trained("fine-tune", "supervised", pretrained))
            best = self.better(tuned, best, also=self.seconds("pretrain"))

        if "distill" in shares and (taught := self.tried("distill", "kd", best.student, teacher=task.teacher)):
            best = self.better(self.judged("distill", taught), best)

        if "self-train" in shares and (self_trained := self.tried("self-train", self.selftrains, best.student, settings=self.first_teacher_is_given())):
            best = self.better(self.judged("self-train", self_trained), best)

        if self.smaller is not None:
            small = self.judged("distill-small", self.trained("distill-small", "kd", self.smaller, teacher=Frozen(best.student.clone())))
            self.record(small, True, f"asked for: the smaller student learns from {best.name}")
            best = small

        return Outcome(best.student, {"chosen": best.name, "stages": [asdict(stage) for stage in self.stages], "temperature": self.temperature(best.student)})

    @property
    def pretrains(self) -> str:
        """The system of the first stage."""
        if self.settings.pretrain != "auto":
            return self.settings.pretrain  # type: ignore[no-any-return]
        own = OWN.get(self.task.train.modality.name)
        if own is not None:
            return own()
        return "lsa" if self.untaught and isinstance(self.task.student.backbone, TextTransformer) else "sdfp"

    @property
    def selftrains(self) -> str:
        """The system that learns what has no label."""
        if self.settings.selftrain != "auto":
            return self.settings.selftrain  # type: ignore[no-any-return]
        return TEACHES.get(self.task.train.modality.name, "fixmatch")

    def shares(self) -> dict[str, float]:
        """The share of the time of every stage that this task has, in their order; they sum to one."""
        s, unlabelled = self.settings, len(self.task.train.unlabelled)
        wanted = {"control": s.control_share}
        pretrains = s.pretrain != "off" and systems.get(self.pretrains).card.takes(self.task.train.modality.name)
        if pretrains and unlabelled >= s.enough:
            wanted |= {"pretrain": s.pretrain_share, "fine-tune": s.finetune_share}
        if self.task.teacher is not None:
            wanted["distill"] = s.distill_share
        if s.selftrain != "off" and unlabelled:
            wanted["self-train"] = s.selftrain_share
        if self.smaller is not None:
            wanted["distill-small"] = s.distill_share
        return {name: share / sum(wanted.values()) for name, share in wanted.items()}

    def outline(self) -> str:
        """What the plan will do, in one sentence."""
        doing = {"control": "labels only", "pretrain": self.pretrains, "fine-tune": "labels", "self-train": self.selftrains}
        parts = [f"{name} ({doing.get(name, 'kd')}) {share:.0%}" for name, share in self.shares().items()]
        return "; ".join(parts)

    def allotted(self, name: str) -> dict[str, Any]:
        """The steps of a stage, or its share of the time that is left: what one stage overruns, the later ones make up for together."""
        train, shares = self.task.settings.train, self.shares()
        if train.steps or not train.budget:
            return self.share(shares[name])
        later = list(shares)[list(shares).index(name) :]
        left = max(1.0, parse_duration(train.budget) - self.spent)
        return {"train.budget": f"{left * shares[name] / sum(shares[n] for n in later):.3f}"}

    def first_teacher_is_given(self) -> dict[str, Any]:
        """The setting by which a system of rounds takes the student as its first teacher, where it has that choice."""
        return {"fine_tune_first": False} if "fine_tune_first" in systems.get(self.selftrains).Settings.model_fields else {}

    def trained(self, name: str, slug: str, student: Student, teacher: Teacher | None = None, settings: dict[str, Any] | None = None) -> Student:
        """Run a stage; what it takes counts against the time of the plan, also where an earlier process did it."""
        done, began = self.seconds(name), time.monotonic()
        outcome = self.stage(name, slug, student, teacher=teacher, settings=settings, common=self.allotted(name))
        self.spent += done or time.monotonic() - began
        return outcome.student

    def tried(self, name: str, slug: str, student: Student, teacher: Teacher | None = None, settings: dict[str, Any] | None = None) -> Student | None:
        """Run a stage that the plan can do without; None where the watch had to stop it."""
        try:
            return self.trained(name, slug, student, teacher, settings)
        except Collapsed as stopped:
            self.stages.append(StageFacts(name, None, False, 0.0, str(stopped)))
            self.task.run.listener.say(f"{name} dropped: {stopped}")
            return None

    def judged(self, name: str, student: Student) -> Judged:
        """What validation says of the student of a stage."""
        if isinstance(student, Detector):
            assert self.task.validation is not None, "fit holds a part of the labels out"
            found = evaluate.BoxMatches.of(student, self.task.validation)
            return Judged(name, student, found.proportion().value, 1.0 - found.strict(), self.seconds(name))
        logits, labels = self.validation_logits(student)
        right = float((logits.argmax(-1) == labels).double().mean())
        error = maths.brier(maths.softened(logits, _temperature(logits, labels)), labels)
        return Judged(name, student, right, error, self.seconds(name))

    def better(self, candidate: Judged, best: Judged, also: float = 0.0) -> Judged:
        """The candidate where it helps on validation, otherwise what there was; says which."""
        helps = candidate.helps(best)
        why = f"validation {candidate.accuracy:.1%} against {best.accuracy:.1%} of {best.name}, {candidate.measure} {candidate.brier:.3f} against {best.brier:.3f}"
        self.record(candidate, helps, why if helps else f"{why}: it does not help, so it is dropped", also)
        return candidate if helps else best

    def record(self, judged: Judged, kept: bool, why: str, also: float = 0.0) -> None:
        self.stages.append(StageFacts(judged.name, judged.accuracy, kept, round(judged.seconds + also, 2), why))
        self.task.run.listener.say(f"{judged.name}: {why}")

    def seconds(self, name: str) -> float:
        """How long a finished stage took; 0 before it is finished."""
        facts = self.task.run.inner("stages", name).read("stage.json")
        return float(facts["seconds"]) if facts else 0.0

    def validation_logits(self, student: Student) -> tuple[Tensor, Tensor]:
        assert self.task.validation is not None, "fit holds a part of the labels out"
        return answers(student, self.task.validation)

    def temperature(self, student: Student) -> float | None:
        return None if isinstance(student, Detector) else _temperature(*self.validation_logits(student))


def _temperature(logits: Tensor, labels: Tensor) -> float:
    """Fitted on validation (1706.04599); few samples that are all right would ask for infinite confidence, so never below 0.5."""
    return max(0.5, maths.fit_temperature(logits, labels))
