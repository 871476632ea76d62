"""Soft Teacher: the average of the student finds boxes in a weak view; the student learns them in a strong one, each as far as the teacher can be trusted."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from understudy import keyed, maths
from understudy.data.modalities.detection import VISIBLE
from understudy.data.samples import Batch, View
from understudy.models.detection import Detector, Found
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="soft-teacher",
    id="s072",
    title="End-to-End Semi-Supervised Object Detection with Soft Teacher",
    paper="2106.09018",
    year=2021,
    family="st-dense",
    modalities=("detection",),
    needs="labels",
    idea="The moving average of a detector finds boxes in a weak view of an unlabelled image, and the student learns them where they lie in a strong view. Only sure boxes are objects to learn; "
    "everything else is background only as far as the teacher, too, calls it background; and the sides of a box are learned only where the teacher answers the same when it is asked a little beside it.",
    equations=(
        "L = L(labelled) + w (L_cls + L_box)",
        "L_cls = 1/n { sum over places in sure boxes: focal(y, p) + sum over the others: r focal(0, p) }, r: background score of the teacher at that place",
        "L_box = mean of 1 - GIoU over the places in steady boxes: mean deviation of the four sides under jitter, over (width + height) / 2, below the limit",
        "teacher <- m teacher + (1 - m) student, after every step",
    ),
    unknown="The paper's detector is Faster R-CNN: a box is jittered and its region read again, and scores are a softmax with a background class. A detector without regions has no second "
    "look, so the box is asked for again at jittered middles of the teacher's own map, and background is one less the highest class; the background is divided by the number of object places (of one box "
    "at least), as in the supervised loss, not by the sum of r. Sigmoids under focal loss are less sure than a softmax, and their sum over places weighs more than a mean over regions: the threshold of 0.9 became "
    "0.6, that of the candidates 0.5 became 0.3, and the weight of 4 became 1. A teacher that has learned nothing finds no boxes: where the paper begins with ImageNet weights, begin with a student of the labels (run:FOLDER).",
)

MOST = 40
"""Boxes of a view that the teacher proposes, at most; few images have more that anybody would be sure of."""


class SoftTeacherSettings(Settings):
    """Settings of ``soft-teacher``."""

    momentum: float = Field(0.999, ge=0, lt=1, description="m, share of itself that the teacher keeps at a step, warmed up (2106.09018, section 4.2: 0.999)")
    threshold: float = Field(
        0.6, ge=0, le=1, description="score from which a box is an object to the student's classes (2106.09018, section 3.2: 0.9, of a softmax)"
    )
    candidates: float = Field(0.3, ge=0, le=1, description="score from which the sides of a box may be learned (2106.09018, section 3.3: 0.5, of a softmax)")
    jitters: int = Field(10, ge=2, description="how often a box is asked for again (2106.09018, section 4.2: 10)")
    jitter: float = Field(0.06, gt=0, description="deviation of where, in widths and heights of the box (2106.09018, section 3.3: 6 %)")
    variance: float = Field(
        0.02, ge=0, description="deviation of its sides, relative to its size, from which a box is not learned (2106.09018, section 4.2: 0.02)"
    )
    soft_background: bool = Field(True, description="whether background counts by the teacher's background score, or always (2106.09018, section 3.2)")
    weight: float = Field(1.0, ge=0, description="w, weight of what unlabelled images say (2106.09018, section 4.2: 4, for a detector with regions)")


class SoftTeacher(Objective):
    """Boxes of a moving average, trusted softly."""

    card = card
    Settings = SoftTeacherSettings
    defaults = {"train.batch": 8}
    reads = {"labelled": 1, "unlabelled": 4}
    student: Detector

    def build(self, task: Task) -> None:
        self.classify(task)
        self.teacher = EMA(self.student)

    def losses(self, labelled: Batch, unlabelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s = self.settings
        x, weak, strong = labelled.view("weak"), unlabelled.view("weak"), unlabelled.view("strong")
        said = self.teacher(unlabelled, weak).logits
        assert weak.place is not None and strong.place is not None and said is not None, "views of such data have places, and detectors answers"
        found = self.student.found(said, min(s.threshold, s.candidates), MOST)
        sure = found.scores >= s.threshold
        steady = (found.scores >= s.candidates) & (self.unsteadiness(said, found, unlabelled.random("jitter")) < s.variance)
        moved = self.moved(found, weak, strong)
        # Both at once, so that they share the statistics of a batch.
        own, answer = self.student({"pixels": torch.cat([x.inputs["pixels"], strong.inputs["pixels"]])}).split([len(x), len(strong)])
        background = 1.0 - said[:, 4:].sigmoid().amax(1)
        trust = maths.carried(background, maths.between(strong.place, weak.place), answer.shape[2], 0.0).flatten(1)
        empty = trust if s.soft_background else torch.ones_like(trust)
        return {
            "labelled": labelled.weighted(self.student.lost(own, x)),
            "classes": s.weight * self.student.class_losses(answer, pseudo(moved, sure), empty),
            "boxes": s.weight * self.student.box_losses(answer, pseudo(moved, steady)),
        }

    def moved(self, found: Found, weak: View, strong: View) -> Found:
        """Boxes of the weak view where they lie in the strong one; those of which it shows too little have no score any more."""
        assert weak.place is not None and strong.place is not None, "views of such data have places"
        boxes, share = maths.clipped_boxes(maths.hull(found.boxes, maths.between(weak.place, strong.place)))
        return Found(boxes, found.classes, found.scores * (share >= VISIBLE))

    def unsteadiness(self, said: Tensor, found: Found, keys: Tensor) -> Tensor:
        """How much the sides of the boxes vary when they are asked for again, ``[B, K]``."""
        offsets = self.settings.jitter * keyed.normal(keys, (found.boxes.shape[1], self.settings.jitters, 2))
        return maths.unsteadiness(said[:, :4], found.boxes, offsets)

    def after_step(self) -> None:
        self.teacher.update(self.student, maths.schedules.ema_warmup(self.step, self.settings.momentum))


def pseudo(found: Found, chosen: Tensor) -> Tensor:
    """The chosen ones of the boxes as labels, ``[B, K, 5]``."""
    return torch.cat([found.boxes, found.classes.where(chosen & (found.scores > 0), -1).unsqueeze(2).float()], 2)
