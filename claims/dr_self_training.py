"""Doubly robust self-training (2306.00265): where the teacher is often wrong it does not mislead, and where it is right it is worth its labels.

Digits with ten labels a class. One teacher has learned the other training digits by labels in which 0 and 1, and 2 and 3, are exchanged, and is wrong about two in
five; another one by the true labels. Students start from one initialisation and see as many samples, half or a quarter of them labelled.

Arms for each teacher: self-training, which learns labels and the teacher's pseudo-labels side by side; doubly robust. Besides: labels only, as many samples; and
doubly robust with the wrong teacher and the given labels of other samples, which must fail.

Tried before on seeds 100 and 101: with a correction that rises over all of the steps, as in the paper, it comes when the rate has already fallen, and doubly robust was
below self-training (0.72 to 0.76); it rises over the first 30 % here. With 20 labels a class, labels only left no room.

Found on seeds 0 to 4 (kept as it fell): with the wrong teacher doubly robust is above self-training by 0.02, within the noise, and above that teacher by 0.20; with the
right teacher it is below labels only (0.81 to 0.88). With ten labels a class the correction is noise of its own: the labelled samples are soon fitted, and go on
pushing the teacher's labels away.
"""

import torch

from understudy import models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.predict import predict
from understudy.teachers.kinds import Frozen

STEPS, PER_CLASS, SEEN = 120, 10, 128
COMMON = {"optim__lr": 0.01, "optim__weight_decay": 0.05}


def run(seed: int) -> dict[str, float]:
    everything, test = hold_out(known.digits(), 0.4, seed)
    few = known.few_labels(everything, PER_CLASS, seed)
    others = everything.take(few.labels < 0)
    exchanged = torch.tensor([1, 0, 3, 2, 4, 5, 6, 7, 8, 9])
    start = models.build("tiny-resnet", few.modality, few.classes, seed, widths=(8, 16, 32))

    def taught(labels: torch.Tensor) -> Student:
        first = models.build("tiny-resnet", few.modality, few.classes, seed + 1000, widths=(8, 16, 32))
        return learn("supervised", first, others.relabelled(labels), seed=seed, steps=STEPS, train__batch=64, **COMMON).student

    def arm(slug: str, teacher: Student | None, batch: int, samples: Samples = few, **settings: object) -> float:
        also = {"pseudo": samples.relabelled(predict(teacher, samples).argmax(1))} if slug == "pseudo-label" and teacher else {}
        told = Frozen(teacher.clone()) if teacher else None
        student = learn(slug, start, samples, seed=seed, steps=STEPS, teacher=told, also=also, settings=settings, train__batch=batch, **COMMON).student
        return accuracy(student, test)

    wrong, right = taught(exchanged[others.labels]), taught(others.labels)
    known_ones = few.labels >= 0
    shuffled = few.labels.clone()
    shuffled[known_ones] = few.labels[known_ones].roll(1)
    return {
        "labels only": arm("supervised", None, SEEN),
        "self-training, wrong teacher": arm("pseudo-label", wrong, SEEN // 4, view="weak", momentum=0.0),
        "doubly robust, wrong teacher": arm("dr-self-training", wrong, SEEN // 2, rise=0.3),
        "self-training, right teacher": arm("pseudo-label", right, SEEN // 4, view="weak", momentum=0.0),
        "doubly robust, right teacher": arm("dr-self-training", right, SEEN // 2, rise=0.3),
        "labels of others": arm("dr-self-training", wrong, SEEN // 2, few.relabelled(shuffled), rise=0.3),
        "wrong teacher": accuracy(wrong, test),
        "right teacher": accuracy(right, test),
    }


claim = Claim(
    system="dr-self-training",
    says="With a teacher that is often wrong, doubly robust self-training makes a better student than self-training on the same labels.",
    effect=("doubly robust, wrong teacher", "self-training, wrong teacher"),
    run=run,
    negative=("labels of others",),
    checks={
        "with a teacher that is right it beats labels only": lambda f: beats(f["doubly robust, right teacher"], f["labels only"]),
        "with a teacher that is often wrong it beats that teacher": lambda f: beats(f["doubly robust, wrong teacher"], f["wrong teacher"]),
    },
    observed={
        "with a teacher that is often wrong it is no worse than labels only": lambda f: not beats(f["labels only"], f["doubly robust, wrong teacher"]),
        "with a teacher that is right it is no worse than self-training": lambda f: (
            not beats(f["self-training, right teacher"], f["doubly robust, right teacher"])
        ),
    },
    data="digits, 10 labels a class",
    minutes_budget=2,
)
