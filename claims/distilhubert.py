"""DistilHuBERT: two blocks that learn to say what later blocks of their teacher say have better features than the two blocks that they were copied from.

Spoken digits as spectrograms. The teacher is a transformer of six blocks that has learned all labels of the training sounds. The figure is the accuracy, on
held-out sounds, of a linear probe on the frozen features with five labels a class.

- ``distilhubert``: the teacher's first two blocks, 200 steps of learning what blocks 2, 4 and 6 say, on the training sounds without labels; the effect's
  treatment.
- ``first blocks``: the same two blocks as they were; the control, and what as many steps at a rate of zero leave.
- ``mae``: the same two blocks after as many steps of masked autoencoding on the same sounds: what the steps are worth without the teacher.
- ``of another``: the targets are those of another sound of the batch; broken on purpose.
- ``last block``: one head, for block 6 alone. ``fresh``: as the treatment, but the student starts as nothing. ``teacher``: all six blocks.

Tried on seed 100: HuBERT learns without labels, but a teacher that did has nothing to teach at this size: the same probe on the mean of a block's tokens gave
0.52, 0.57, 0.59, 0.56, 0.56, 0.55 on the six blocks after 400 steps of masked autoencoding, and 0.50, 0.51, 0.54, 0.53, 0.44, 0.41 after 400 of SimCLR. With
labels it gave 0.64, 0.84, 0.88, 0.91, 0.92, 0.92. The data do not say who speaks, so the probe cannot be of other speakers.

Found on seeds 5 to 9: the paper's several heads are no gain here, the last block alone teaches more (0.91, ``distilhubert`` 0.90, the control 0.85): a
teacher that has learned labels says in its last block what the probe asks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from understudy import models
from understudy.claims import Claim, beats, learn, probe
from understudy.data import known
from understudy.data.samples import Batch, View
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.architecture import backbone_of
from understudy.systems.base import Task
from understudy.systems.kd_feature.distilhubert import DistilHuBERT
from understudy.teachers.base import Signals
from understudy.teachers.kinds import Frozen

TEACHER, STEPS = 200, 200


class OfNext(Frozen):
    """Says of each sound what it hears in the next one of the batch."""

    def answer(self, batch: Batch, view: View) -> Signals:
        said = super().answer(batch, view)
        return replace(said, layers={path: seen.roll(1, 0) for path, seen in said.layers.items()})


class OfAnother(DistilHuBERT):
    """Heads that learn what was said of another sound."""

    def build(self, task: Task) -> None:
        super().build(task)
        self.teacher = OfNext(self.teacher.model, layers=self.paths)


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.spoken_digits_heard(), 0.3, seed)
    few, silent = known.few_labels(train, 5, seed).labelled, known.few_labels(train, 0, seed)
    fresh = models.build("tiny-ast", train.modality, train.classes, seed, depth=6, patch=4)
    teacher = learn("supervised", fresh, train, seed=seed, steps=TEACHER, train__batch=64, optim__lr=1e-3).student.with_head((), 0)
    spec = {**teacher.spec, "options": {**teacher.spec["options"], "depth": 2}}
    cut, there = Student(backbone_of(spec, seed), teacher.modality, (), spec, seed), teacher.backbone.state_dict()
    cut.backbone.load_state_dict({name: there[name] for name in cut.backbone.state_dict()})

    def learned(kind: str | type[DistilHuBERT], student: Student, **options: Any) -> float:
        return probe(learn(kind, student, silent, seed=seed, steps=STEPS, train__batch=64, optim__lr=1e-3, watch__action="off", **options).student, few, test)

    def taught(kind: str | type[DistilHuBERT] = "distilhubert", **settings: Any) -> float:
        return learned(kind, teacher, teacher=Frozen(teacher.clone()), settings=settings)

    return {
        "distilhubert": taught(),
        "first blocks": probe(cut, few, test),
        "mae": learned("mae", cut),
        "of another": taught(OfAnother),
        "last block": taught(taught=(6,)),
        "fresh": taught(copied=False),
        "teacher": probe(teacher, few, test),
    }


claim = Claim(
    system="distilhubert",
    says="The teacher's first blocks, once they have learned to say what its later blocks say, have features that a few labels make more of than those of these blocks before.",
    effect=("distilhubert", "first blocks"),
    run=run,
    negative=("of another",),
    checks={"as many steps without the teacher are worth less": lambda f: beats(f["distilhubert"], f["mae"])},
    observed={
        "several layers teach more than the last alone": lambda f: beats(f["distilhubert"], f["last block"]),
        "a copied start is better than none": lambda f: beats(f["distilhubert"], f["fresh"]),
    },
    data="spoken digits as spectrograms, 50 labels for the probe",
    minutes_budget=6,
)
