"""T-JEPA (2410.05016): what a network learns by predicting some columns from others is a better input for a classifier than what it was before.

Printed letters as tables of 16 numbers, 14,000 rows without labels. As in the released code, a linear classifier reads the features of all columns side by side: a probe with ten labels a class
(mean of ten draws from 3,000 rows, tested on 2,000 others). Arms: the table transformer as it is before training (the control); T-JEPA, 240 steps of 64 rows; without registers; with the target of
another row, which must fail. ``..., rank`` is RankMe of the features of 1,000 rows, which falls where they collapse; ``the columns`` is the probe on the columns themselves.

Tried before. Digits as tables of 16 numbers or categories: rates 5e-4 to 1e-2, momentum from 0.9 to 0.996, none to four registers, 20 to 70 % of the columns seen, up to 500 steps: never more than
untrained. Letters, seed 100 (columns 0.621, untrained 0.614): 200 steps at 1e-3 with the released settings 0.618; 300 steps at 3e-3, momentum from 0.98, 30 to 60 % seen, two targets 0.627; one target,
1e-2: 0.630; 5e-3, momentum from 0.99, 50 to 80 % seen, which is run: 0.639, and as much without registers; 60 to 85 % seen, 1e-2: 0.620. Satellite pictures, seed 100, five labels a class: 0.757, untrained
0.764. What is run, 240 steps, had 0.639 on seed 101 (untrained 0.617, columns 0.630), but 0.647 with the target of another row: what the probe gains there is not knowledge of rows. In all of them the rank falls, from 25 to between 2 and 13. The paper trains networks of 16 blocks for some 30,000 steps.

Unclear on seeds 5 to 9: the probe gains 0.015 with standard error 0.002, but with the target of another row it gains 0.016.
"""

from typing import Any
from unittest import mock

import torch
from torch import Tensor

from understudy import evaluate, maths, models
from understudy.claims import Claim, beats, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.predict import evaluating, plain_inputs

STEPS, SHOTS, POOL, TEST = 240, 10, 3000, 2000
SETTINGS: dict[str, Any] = {"targets": 1, "depth": 1, "context": (0.5, 0.8), "target": (0.15, 0.3), "momentum": (0.99, 1.0)}
COMMON: dict[str, Any] = {"train__batch": 64, "optim__lr": 5e-3, "watch__action": "off"}


def columns(samples: Samples) -> Tensor:
    """The numbers themselves, ``[N, T]``."""
    return torch.cat([inputs["numbers"] for inputs in plain_inputs(samples, 512, "cpu")])


def side_by_side(student: Student, samples: Samples) -> Tensor:
    """The features of all columns, ``[N, T * D]``."""
    with evaluating(student):
        return torch.cat([student.features(inputs).tokens.flatten(1) for inputs in plain_inputs(samples, 512, "cpu")])


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.letters(), 0.3, seed)
    pool, test = train.take(torch.arange(POOL)), test.take(torch.arange(TEST))
    unlabelled = train.relabelled(torch.full_like(train.labels, -1))
    start = models.build("tiny-table", train.modality, train.classes, seed)

    def probed(seen: Tensor, new: Tensor) -> float:
        return evaluate.few_shot(seen, pool.labels, new, test.labels, SHOTS, key=seed).mean

    def learned(**settings: Any) -> Student:
        return learn("t-jepa", start, unlabelled, seed=seed, steps=STEPS, settings={**SETTINGS, **settings}, **COMMON).student

    arms = {"untrained": start, "t-jepa": learned(), "no registers": learned(registers=0)}
    honest = maths.masked_squared_error
    with mock.patch.object(maths, "masked_squared_error", lambda answer, target, asked: honest(answer, target.roll(1, 0), asked)):
        arms["target of another"] = learned()
    figures = {"the columns": probed(columns(pool), columns(test))}
    for name, student in arms.items():
        seen = side_by_side(student, pool)
        figures[name], figures[f"{name}, rank"] = probed(seen, side_by_side(student, test)), float(maths.rankme(seen[:1000]))
    return figures


claim = Claim(
    system="t-jepa",
    says="A few-shot probe on the features of columns that predict each other beats one on the features of the network that learning began with.",
    effect=("t-jepa", "untrained"),
    run=run,
    negative=("target of another",),
    checks={"it beats a probe on the columns themselves": lambda f: beats(f["t-jepa"], f["the columns"])},
    observed={
        "registers pay": lambda f: beats(f["t-jepa"], f["no registers"]),
        "registers keep the rank": lambda f: beats(f["t-jepa, rank"], f["no registers, rank"]),
    },
    data="letters as tables of 16 numbers, 14,000 without labels, ten labels a class for the probe",
    minutes_budget=5,
)
