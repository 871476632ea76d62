"""ReST-EM (2312.06585): a model that learns its own answers, where a checker finds them right, gets better than by more training on the answers people gave.

The paper fine-tunes on MATH and APPS; here a small transformer sorts up to five digits. It has learned 80 worked examples for 250 steps, and these and 500 further problems come
without an answer, but with a checker.

Arms, all from that start and for as many steps: the 80 answers again; ReST-EM; ReST-EM going on from the last round's weights; what it writes kept at random, as
often as not, whatever the checker says, which must fail. Also: pass@8 of the start and of ReST-EM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from understudy import evaluate, keyed, models
from understudy.claims import Claim, beats, learn, solved
from understudy.data import problems
from understudy.data.modalities import Exchange
from understudy.data.samples import Samples
from understudy.teachers.rewards import Checked, Reward

START, STEPS, KNOWN, POOL, TEST = 250, 200, 80, 500, 400
CHECK = Checked(problems.KINDS["sorting"].right)


class AtRandom:
    """Right is what a coin says: as a filter that knows nothing."""

    fingerprint = "a coin"

    def __call__(self, exchanges: Sequence[Exchange], answers: Sequence[str]) -> list[float]:
        return [float(keyed.of_text(f"{exchange.prompt} {answer}") % 2) for exchange, answer in zip(exchanges, answers, strict=True)]


def task(seed: int, size: int) -> tuple[Samples, Samples, Samples]:
    """Samples with answers, all training prompts with only those answers, test samples."""
    drawn = problems.draw("sorting", KNOWN + POOL + TEST, size, seed)
    order = keyed.permutation(int(keyed.fold(seed, "order")), len(drawn))
    known, pool, test = order.split([KNOWN, POOL, TEST])
    given = drawn.take(known)
    everything = problems.hidden(drawn.take(torch.cat([known, pool])), 0, seed)
    return given, everything, drawn.take(test)


def run(seed: int) -> dict[str, float]:
    given, everything, test = task(seed, 5)
    common = {"seed": seed, "train__batch": 32, "optim__lr": 3e-3}
    start = learn("sft", models.build("tiny-lm", given.modality, (), seed, width=48), given, steps=START, **common).student

    def treated(reward: Reward = CHECK, **settings: object) -> models.Student:
        own = {"rounds": 2, "samples": 8, "most": 4, **settings}
        return learn("rest-em", start, everything, reward=reward, steps=STEPS, settings=own, **common).student

    longer, rest_em = learn("sft", start, given, steps=STEPS, **common).student, treated()
    pass_at = {name: evaluate.solved_within(student, test, CHECK, (8,), key=seed)[8] for name, student in (("start", start), ("rest-em", rest_em))}
    return {
        "start": solved(start, test, CHECK),
        "more training": solved(longer, test, CHECK),
        "rest-em": solved(rest_em, test, CHECK),
        "from the last round": solved(treated(restart=False), test, CHECK),
        "kept at random": solved(treated(AtRandom()), test, CHECK),
        "pass@8 of the start": pass_at["start"],
        "pass@8 of rest-em": pass_at["rest-em"],
    }


claim = Claim(
    system="rest-em",
    says="Learning the own answers that a checker finds right gives more than as many further steps on the answers that were given.",
    effect=("rest-em", "more training"),
    run=run,
    negative=("kept at random",),
    checks={"the checker matters: it beats keeping at random": lambda figures: beats(figures["rest-em"], figures["kept at random"])},
    observed={
        "going on from the last round beats beginning again": lambda figures: beats(figures["from the last round"], figures["rest-em"]),
        "pass@8 grows as well": lambda figures: beats(figures["pass@8 of rest-em"], figures["pass@8 of the start"]),
    },
    data="sorting of up to 5 digits: 80 examples, 500 problems with a checker",
    minutes_budget=4,
)
