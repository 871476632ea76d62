"""NKD and USKD (2303.13005): distillation that treats the true class and the others apart, from a teacher (NKD) and from the student itself (USKD).

The paper compares on ImageNet and CIFAR-100, where there are many wrong classes and some are nearer than others. Here the classes are the numbers from 00 to 99,
each of two of scikit-learn's digits side by side; training and test numbers are made of different digits. As in the paper, teacher and student learn from
the same samples, and the settings are those of the released code for CIFAR-100.

Arms, all from one start and as many steps on the same weak views:

- ``nkd``: the effect's treatment.
- ``kd``: plain distillation at temperature 4, the label's weight 0.1; the control.
- ``labels only``, ``label smoothing`` (0.1).
- ``nkd about another sample``: the teacher answers about the next sample of the batch; broken on purpose.
- ``uskd``, and ``uskd ranked at random``, whose soft labels have the same shape and say nothing.

Chosen on seed 100: the rate, the steps, digits at one height (at random heights no student came above 0.3), and KD's temperature among 1, 2, 4 and 8 (0.636, 0.643,
0.647, 0.596, where NKD had 0.670). NKD's and USKD's settings were not chosen: CIFAR-100's were tried first and stayed (USKD 0.655; ImageNet's 0.638).
Found on seeds 0 to 4 (kept as it fell): NKD is 0.019 above KD with a standard error of 0.014, which is not enough. USKD is neither above labels only nor above its own
version with random ranks: a student this small and this briefly trained moves by 0.1 from seed to seed, and one seed for tuning had not shown that.
An earlier claim, on digits with 5 labels a class and a teacher that knew other samples, found NKD 0.053 above labels only but KD 0.010 above NKD, label smoothing
above USKD, and random ranks as good: with ten classes and a teacher that is not sure of the student's samples there is little for the paper's terms to do.
"""

from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from understudy import keyed, models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import Batch, View
from understudy.data.split import hold_out
from understudy.maths import divergences
from understudy.teachers.base import Signals
from understudy.teachers.kinds import Frozen

STEPS, NUMBERS = 400, 1500
CIFAR = {"gamma": 3.5, "temperature": 3.0}
SELF = {"alpha": 0.1, "beta": 0.1, "mu": 0.1}
HONEST = divergences.zipf_labels


class AboutAnother(Frozen):
    """Answers about the next sample of the batch."""

    def answer(self, batch: Batch, view: View) -> Signals:
        return Signals(probabilities=super().answer(batch, view).soft().roll(1, 0))


def ranked_at_random(student_logits: Tensor, weak_logits: Tensor, labels: Tensor) -> Tensor:
    """Zipf's labels, whoever says what."""
    noise = keyed.normal(keyed.fold(0, torch.arange(len(labels)), int(student_logits.detach().sum() * 1e4)), student_logits.shape[1:])
    return HONEST(noise, noise, labels)


def run(seed: int) -> dict[str, float]:
    digits, others = hold_out(known.digits(), 0.4, seed)
    train, test = known.numbers(digits, NUMBERS, seed), known.numbers(others, 1000, seed + 1)
    common = {"seed": seed, "steps": STEPS, "train__batch": 64}
    untaught = models.build("tiny-resnet", train.modality, train.classes, seed + 1000)
    teacher = learn("supervised", untaught, train, optim__lr=1e-2, **common).student
    start = models.build("tiny-resnet", train.modality, train.classes, seed, widths=(8, 16, 32))

    def arm(slug: str, told_by: Callable[..., Frozen] | None = None, **settings: float) -> float:
        given, optim = told_by(teacher.clone()) if told_by else None, {"optim__name": "adamw", "optim__lr": 2e-2, "optim__weight_decay": 0.05}
        return accuracy(learn(slug, start, train, teacher=given, settings=settings, **common, **optim).student, test)

    figures = {
        "labels only": arm("supervised"),
        "label smoothing": arm("supervised", label_smoothing=0.1),
        "kd": arm("kd", Frozen, temperature=4.0),
        "nkd": arm("nkd-uskd", Frozen, **CIFAR),
        "nkd about another sample": arm("nkd-uskd", AboutAnother, **CIFAR),
        "uskd": arm("nkd-uskd", **SELF),
        "teacher": accuracy(teacher, test),
    }
    with mock.patch.object(divergences, "zipf_labels", ranked_at_random):
        figures["uskd ranked at random"] = arm("nkd-uskd", **SELF)
    return figures


claim = Claim(
    system="nkd-uskd",
    says="NKD makes a better student than plain distillation; without a teacher, USKD makes a better one than labels, smoothed or not.",
    effect=("nkd", "kd"),
    run=run,
    negative=("nkd about another sample",),
    checks={
        "kd beats labels only": lambda figures: beats(figures["kd"], figures["labels only"]),
        "uskd beats labels only": lambda figures: beats(figures["uskd"], figures["labels only"]),
        "label smoothing does not beat uskd": lambda figures: not beats(figures["label smoothing"], figures["uskd"]),
        "uskd beats uskd ranked at random": lambda figures: beats(figures["uskd"], figures["uskd ranked at random"]),
    },
    data="numbers from 00 to 99 made of digits, 16x16, 1500 of them",
    minutes_budget=5,
)
