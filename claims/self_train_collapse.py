"""Collapse (2404.02305), the warning: a model that learns what it writes, unchecked, gets worse at real texts, and its texts grow alike.

The paper goes on with GPT-2, which writes and learns on WikiText-2 and Penn Treebank; here a small transformer has learned the first 32 characters of 1,500 docstrings of the
standard library, letter by letter. In each of five rounds it writes 256 texts from nothing and learns them.

The figure is the loss in nats a letter on docstrings it has not seen: larger is worse, and larger is what the paper says. Arms, all from one start and for as many steps:
its own texts; given texts (the control); half of each; its own texts at a rate of almost nothing, which must not collapse.
"""

from __future__ import annotations

import math
from collections import Counter

import torch

from understudy import keyed, maths, models
from understudy.claims import Claim, beats, learn
from understudy.data import known, problems
from understudy.data.modalities import Exchange, GenerationModality
from understudy.data.samples import Samples
from understudy.teachers.writers import PolicyWriter, Sampling

START, STEPS, LENGTH, LEARNED, WRITTEN, TEST = 250, 200, 32, 1500, 256, 400


def texts(seed: int) -> Samples:
    """Beginnings of docstrings, in small letters, to be written after nothing."""
    source = known.docstrings()
    letters = set("abcdefghijklmnopqrstuvwxyz .,'()-")
    cut = ["".join(c for c in source.encoded.original(int(i)).lower() if c in letters)[:LENGTH] for i in source.positions]
    order = keyed.permutation(int(keyed.fold(seed, "order")), len(cut)).tolist()[: LEARNED + TEST]
    modality = GenerationModality.characters(["".join(letters)], LENGTH + 2)
    return problems.samples_of([Exchange("", cut[i]) for i in order], modality, [source.ids[i] for i in order])


@torch.no_grad()
def nats(student: models.Student, samples: Samples) -> float:
    """Mean loss a letter."""
    inputs = samples.batch(torch.arange(len(samples))).view("plain").inputs
    return float(maths.masked_mean(-student.token_log_probabilities(inputs), inputs["answer"]).mean())  # type: ignore[operator]


def variety(student: models.Student, seed: int) -> float:
    """Entropy in nats of the first six letters of 500 texts that it writes."""
    said = PolicyWriter(student, Sampling())([""] * 500, torch.as_tensor(keyed.fold(seed, torch.arange(500))))  # type: ignore[arg-type]
    counts = Counter(text[:6] for text in said)
    return -sum(n / 500 * math.log(n / 500) for n in counts.values())


def run(seed: int) -> dict[str, float]:
    everything = texts(seed)
    train, test = everything.take(torch.arange(LEARNED)), everything.take(torch.arange(LEARNED, LEARNED + TEST))
    common = {"seed": seed, "train__batch": 32}
    start = learn("sft", models.build("tiny-lm", train.modality, (), seed, width=48), train, steps=START, optim__lr=3e-3, **common).student

    def after(anchor: float, rate: float = 2e-3) -> models.Student:
        settings = {"rounds": 5, "anchor": anchor}
        return learn("self-train-collapse", start, train.take(torch.arange(WRITTEN)), steps=STEPS, settings=settings, optim__lr=rate, **common).student

    own, given = after(0.0), after(1.0)
    return {
        "start": nats(start, test),
        "own texts": nats(own, test),
        "given texts": nats(given, test),
        "half of each": nats(after(0.5), test),
        "own texts, hardly learned": nats(after(0.0, 1e-6), test),
        "variety of the start": variety(start, seed),
        "variety of own texts": variety(own, seed),
        "variety of given texts": variety(given, seed),
    }


claim = Claim(
    system="self-train-collapse",
    says="Learning its own unchecked texts makes a language model worse at real ones than as many steps on as many given texts.",
    effect=("own texts", "given texts"),
    run=run,
    negative=("own texts, hardly learned",),
    checks={
        "it is worse than before": lambda figures: beats(figures["own texts"], figures["start"]),
        "its texts have grown alike": lambda figures: beats(figures["variety of the start"], figures["variety of own texts"]),
    },
    observed={
        "half of given texts prevents most of it": lambda figures: beats(figures["own texts"], figures["half of each"]),
        "given texts leave more variety": lambda figures: beats(figures["variety of given texts"], figures["variety of own texts"]),
    },
    data="beginnings of docstrings, letter by letter",
    minutes_budget=4,
)
