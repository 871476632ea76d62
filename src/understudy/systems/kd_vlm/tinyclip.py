"""TinyCLIP: a CLIP model shrinks in stages; each smaller one inherits weights of the one before and learns the first one's affinities."""

from __future__ import annotations

from pydantic import Field

from understudy.errors import UserError
from understudy.models.architecture import backbone_of
from understudy.models.clip import CLIP
from understudy.models.inherit import inherited
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Plan, Task
from understudy.teachers.kinds import Frozen

card = Card(
    slug="tinyclip",
    id="s075",
    title="TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance",
    paper="2309.12314",
    year=2023,
    family="kd-vlm",
    modalities=("image-text",),
    needs="teacher",
    idea="How near every image of a batch finds every caption is what a large CLIP model knows, and what a small one learns. It does not begin with nothing: it is cut out of the large one, layers at "
    "even distances, the first heads and channels of each. Cut too deep at once, little is left; so it shrinks in stages, and learns after every cut.",
    equations=(
        "stage k of n: sizes = teacher's + k / n (student's - teacher's); weights = those of stage k - 1, cut (stage 0: the teacher)",
        "A = softmax over captions of (s a b^T), B = softmax over images of (s b a^T), of teacher and student with their own s",
        "loss = (CE(A_teacher, A_student) + CE(B_teacher, B_student)) / 2, over the captions and images of all processes",
    ),
    unknown="The paper's automatic inheritance, where masks over heads, channels and layers are learned under a target of sparsity (L0), is left out: only its manual one is here. It keeps more of the teacher.",
)


class TinyCLIPSettings(Settings):
    """Settings of ``tinyclip``; those of a stage are ``tinyclip-stage``."""

    stages: int = Field(3, ge=1, description="cuts from the teacher's size to the student's (2309.12314, section 3.3: 100 to 75 to 50 to 25 %)")
    inherit: bool = Field(True, description="whether each size starts as a cut of the one before; if not, the student learns as it is, in one stage")


class TinyCLIP(Plan):
    """Cut, learn affinities, cut again."""

    card = card
    Settings = TinyCLIPSettings

    def check(self, task: Task) -> None:
        super().check(task)
        model = task.teacher.model if isinstance(task.teacher, Frozen) else None
        if not isinstance(model, Student) or not isinstance(model.backbone, CLIP) or not isinstance(task.student.backbone, CLIP):
            raise UserError(
                "tinyclip makes a small model of images and captions out of a large one: give --teacher run:FOLDER of one trained with clip, and --student tiny-clip"
            )
        if self.settings.inherit:
            inherited(task.student.clone().backbone, model.backbone)

    def run(self) -> Outcome:
        s, task = self.settings, self.task
        whole: Student = task.teacher.model  # type: ignore[union-attr, assignment]
        student, stages = whole, s.stages if s.inherit else 1
        for number in range(1, stages + 1):
            smaller = self.sized(whole, number / stages) if number < stages else task.student.with_head((), 0)
            if s.inherit:
                inherited(smaller.backbone, student.backbone)
            student = self.stage(f"stage-{number}", "tinyclip-stage", smaller, teacher=Frozen(whole.clone()), common=self.share(1 / stages)).student
        return Outcome(student)

    def sized(self, whole: Student, way: float) -> Student:
        """A model whose sizes lie ``way`` (0 to 1) from the teacher's to the student's."""
        first, last = (one.spec["options"] for one in (whole, self.task.student))
        options = {name: round(first[name] + way * (last[name] - first[name])) for name in ("depth", "text_depth", "heads", "joint")}
        options["width"] = options["heads"] * last["width"] // last["heads"]
        spec, key = {**whole.spec, "options": options}, self.task.key(f"sized {way}")
        return Student(backbone_of(spec, key), whole.modality, (), spec, key)
