"""Self-distillation under label noise (2301.13304): with half of the labels redrawn, the best share of the teacher is above one.

The paper's theory is of regression on given features, with more of them than a model can tell apart by its samples; so is this: logistic regression on 400 random cosines of the pixels
(0711.XXXX) of 400 digits, half of which get a label drawn at random. The teacher learns these labels; students start where it started and learn, from the same labels and from the
teacher, as many steps, all samples in every batch.

Arms by xi: 0.5, 1 (the teacher alone, the control), 1.5 (the treatment) and 2; 1.5 with the labels of other samples, which must fail: subtracting labels that the teacher
never saw takes out nothing.

Tried before, on seeds 100 and 101. Where the noise is not learned by heart (96 features, 200 to 500 digits, 40 to 85 % noise) xi of 1.1 to 1.4 was below xi of 1 in most, by up to 0.05;
training all of a small network showed none either. With the settings here, outside this package: teacher 0.652 and 0.697, xi of 1: 0.732 and 0.752, 1.5: 0.741 and 0.771, 2: 0.744 and
0.773, 3: 0.723 and 0.732. Docstrings on 256 latent semantic features with weight decay, 40 % noise: 0.486 and 0.477 (xi 1), 0.496 and 0.481 (1.5), 0.499 and 0.493 (2). With more
features than samples and a teacher that answers every wrong label (512 for 1,000 docstrings) no xi does anything. This file, on seeds 100 and 101: xi of 1: 0.689 and 0.609, 1.5: 0.712 and
0.641, 2: 0.740 and 0.673; teacher 0.615 and 0.544, which gave 0.94 and 0.93 of its own labels. Twelve seeds from 20 on were decided before.
"""

import math

import torch
from torch import Tensor

from understudy import keyed
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import Inputs, Samples
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.backbone import Backbone, Features
from understudy.teachers.kinds import Frozen

STEPS, SAMPLES, FEATURES, NOISE, XI = 200, 400, 400, 0.5, 1.5
COMMON = {"optim__name": "adamw", "optim__lr": 0.03, "optim__weight_decay": 0.3, "train__batch": SAMPLES}


class Cosines(Backbone):
    """Random Fourier features of the pixels (Rahimi and Recht, 2007, algorithm 1), of a Gaussian kernel."""

    modality, patch, width, token_width = "image", None, FEATURES, FEATURES

    def __init__(self, pixels: int, key: int):
        super().__init__()
        self.register_buffer("directions", 0.3 * keyed.normal(keyed.fold(key, "directions"), (pixels, FEATURES)))
        self.register_buffer("phases", 2 * math.pi * keyed.uniform(keyed.fold(key, "phases"), (FEATURES,)))

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        waves = torch.cos(inputs["pixels"].flatten(1) @ self.directions + self.phases) * (10 * math.sqrt(2 / FEATURES))
        return Features(waves, waves.unsqueeze(1), None)

    def positions(self, inputs: Inputs) -> int:
        return 1


def run(seed: int) -> dict[str, float]:
    everything, test = hold_out(known.digits(), 0.4, seed)
    few = everything.take(keyed.permutation(keyed.fold(seed, "few"), len(everything))[:SAMPLES])
    keys = keyed.fold(keyed.fold(seed, "noise"), few.keys)
    noisy = few.relabelled(torch.where(keyed.bernoulli(keys, NOISE), keyed.integers(keyed.fold(keys, "class"), 10), few.labels))
    start = Student(Cosines(64, seed), few.modality, few.classes, {}, seed)

    def student(train: Samples, teacher: Student, xi: float) -> Student:
        return learn("sd-noisy-theory", start, train, seed=seed, steps=STEPS, teacher=Frozen(teacher.clone()), settings={"xi": xi}, **COMMON).student

    teacher = student(noisy, start, 0.0)
    figures = {f"xi = {xi}": accuracy(student(noisy, teacher, xi), test) for xi in (0.5, 1.0, XI, 2.0)}
    figures["labels of others"] = accuracy(student(noisy.relabelled(noisy.labels.roll(1)), teacher, XI), test)
    return {**figures, "teacher": accuracy(teacher, test), "share of its own labels": accuracy(teacher, noisy)}


claim = Claim(
    system="sd-noisy-theory",
    says="Where half of the labels are wrong, a student that counts labels negatively beats one that learns from the teacher alone.",
    effect=(f"xi = {XI}", "xi = 1.0"),
    run=run,
    negative=("labels of others",),
    checks={
        "and beats its teacher": lambda f: beats(f[f"xi = {XI}"], f["teacher"]),
        "and beats one that learns from both": lambda f: beats(f[f"xi = {XI}"], f["xi = 0.5"]),
    },
    observed={"xi = 2 is better still": lambda f: beats(f["xi = 2.0"], f[f"xi = {XI}"])},
    data="400 digits, half of the labels redrawn at random, 400 random features",
    minutes_budget=2,
)
