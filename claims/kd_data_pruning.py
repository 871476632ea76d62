"""KD on pruned data (2403.07854): a teacher that has learned all samples brings back what pruning took away, and then a random part will do.

Digits of 8x8 pixels, 20 % of the labels redrawn at random. The teacher learns all of the 1,078 samples; students start from one initialisation and learn a tenth of
them, as many steps. Arms: labels of a random part (the control) and of the part that the teacher is most wrong about; the teacher on each of the two parts; a
teacher that has learned only the random part, whose gain must be smaller, as the knowledge comes from the rest; a teacher about another sample, which must fail.
"""

import torch

from understudy import keyed, maths, models
from understudy.claims import Claim, Figures, accuracy, beats, difference, learn
from understudy.data import known
from understudy.data.samples import Batch, Samples, View
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.predict import predict
from understudy.teachers.base import Signals
from understudy.teachers.kinds import Frozen

STEPS, FRACTION, NOISE = 150, 0.1, 0.2
COMMON = {"optim__lr": 0.01, "optim__weight_decay": 0.05, "train__batch": 64}


class AboutAnother(Frozen):
    """Answers about the next sample of the batch."""

    def answer(self, batch: Batch, view: View) -> Signals:
        return Signals(probabilities=super().answer(batch, view).soft().roll(1, 0))


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.digits(), 0.4, seed)
    keys = keyed.fold(keyed.fold(seed, "noise"), train.keys)
    train = train.relabelled(torch.where(keyed.bernoulli(keys, NOISE), keyed.integers(keyed.fold(keys, "class"), 10), train.labels))

    def taught(samples: Samples) -> Student:
        first = models.build("tiny-resnet", train.modality, train.classes, seed + 1000)
        return learn("supervised", first, samples, seed=seed, steps=STEPS, **COMMON).student

    teacher = taught(train)
    start = models.build("tiny-resnet", train.modality, train.classes, seed, widths=(8, 16, 32))
    wrong = maths.squared_distance(predict(teacher, train).softmax(-1), torch.nn.functional.one_hot(train.labels, 10).float())
    drawn = keyed.uniform(keyed.fold(int(keyed.fold(seed, "prune")), train.keys))  # as the system draws
    part, hard = (train.take(maths.select_top(score, FRACTION)) for score in (drawn, wrong))

    def labels(samples: Samples) -> float:
        return accuracy(learn("supervised", start, samples, seed=seed, steps=STEPS, **COMMON).student, test)

    def kd(told: Frozen, keep: str = "random") -> float:
        settings = {"fraction": FRACTION, "keep": keep}
        return accuracy(learn("kd-data-pruning", start, train, seed=seed, steps=STEPS, teacher=told, settings=settings, **COMMON).student, test)

    return {
        "labels": labels(part),
        "labels, hard": labels(hard),
        "kd": kd(Frozen(teacher.clone())),
        "kd, hard": kd(Frozen(teacher.clone()), "hard"),
        "kd, teacher of the part": kd(Frozen(taught(part))),
        "kd, about another sample": kd(AboutAnother(teacher.clone())),
        "teacher": accuracy(teacher, test),
    }


def gain(figures: Figures, kind: str) -> float:
    return difference(figures[f"kd{kind}"], figures[f"labels{kind}"])[0]


claim = Claim(
    system="kd-data-pruning",
    says="On a random tenth of the samples, a student that learns from a teacher of all samples beats one that learns the labels.",
    effect=("kd", "labels"),
    run=run,
    negative=("kd, about another sample",),
    checks={
        "a teacher of all samples is better than one of the same part": lambda f: beats(f["kd"], f["kd, teacher of the part"]),
        "with a teacher, a random part is no worse than the hard one": lambda f: not beats(f["kd, hard"], f["kd"]),
    },
    observed={"the hard part gains more from the teacher than the random one": lambda f: gain(f, ", hard") > gain(f, "")},
    data="digits, 20 % of the labels redrawn at random, a tenth of them kept",
    minutes_budget=3,
)
