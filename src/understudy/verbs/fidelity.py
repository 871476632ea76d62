"""A student beside its teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy import evaluate
from understudy.data.samples import Samples
from understudy.evaluate import Fidelity
from understudy.models.predict import evaluating
from understudy.models.student import Student
from understudy.teachers.base import Teacher
from understudy.teachers.kinds import Frozen
from understudy.teachers.remembered import Remembered
from understudy.teachers.stored import Stored


def fidelity(student: Student, teacher: Teacher, samples: Samples) -> Fidelity:
    """How closely the student answers as its teacher does, both seeing the plain view, or the first stored one of a label store. Both move to the CPU."""
    student, teacher = student.cpu(), teacher.cpu()
    wanted: list[Tensor] = []
    said: list[Tensor] = []
    with evaluating(student):
        for batch in samples.batches(256):
            view = teacher.replay(batch, 0) if isinstance(teacher, Stored) else batch.view("plain")
            wanted.append(teacher(batch, view).soft())
            said.append(student(view.inputs).softmax(-1))
    return evaluate.fidelity(torch.cat(wanted), torch.cat(said))


def faster_and_smaller(student: Student, teacher: Teacher, samples: Samples) -> tuple[float, float] | None:
    """How many times faster and smaller than its teacher a student is; None where the teacher is no model of this process."""
    teacher = teacher.teacher if isinstance(teacher, Remembered) else teacher
    if not (isinstance(teacher, Frozen) and isinstance(teacher.model, Student)):
        return None
    ours, theirs = evaluate.size_and_speed(student, samples), evaluate.size_and_speed(teacher.model, samples)
    return theirs.milliseconds / ours.milliseconds, theirs.parameters / ours.parameters
