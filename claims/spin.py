"""SPIN (2401.01335): playing against its own past answers, a model gets more out of the same given answers than by learning them longer.

The paper goes on from Zephyr-7B-SFT with the prompts it was fine-tuned on; here a small transformer sorts up to five digits after 100 steps on 200 worked examples. An
outsider's objection (uclaml/SPIN, issue 30) is that this can only help where fine-tuning had not converged: hence the control, as many steps of fine-tuning.

Arms, all from that start and for as many steps: the 200 answers again; three rounds of SPIN; SPIN that prefers its own answers over the given ones, which must fail.

Settings were chosen on seed 100: lambda 0.1 (the paper's) at rates of 2e-4 and 1e-3, 1 at 5e-5 and 6e-4 and 5 (its last round's, as we remember it) at 1e-4, of which the last lost least
against the start (0.61 of 0.62); none came up to more training (0.67). From a start that fine-tuning no longer moves (600 steps, all 200 known by heart; start 0.703, more training 0.660) SPIN
came to 0.693 (lambda 5, rate 1e-4), 0.658 (5, 3e-4) and 0.608 (0.5, 3e-4), fine-tuning at its own rate to 0.705 and 0.715.
"""

from __future__ import annotations

from understudy import keyed, models
from understudy.claims import Claim, beats, learn, solved
from understudy.data import problems
from understudy.systems.language import Answers, Lesson
from understudy.systems.llm_self.spin import SPIN
from understudy.teachers.rewards import Checked

START, STEPS, KNOWN, TEST = 100, 150, 200, 400
CHECK = Checked(problems.KINDS["sorting"].right)


class OwnFirst(SPIN):
    """Prefers its own answers."""

    card = SPIN.card

    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        return [Lesson(lesson.rejected, lesson.chosen) for lesson in super().decide(answers, round) if lesson.rejected]


def run(seed: int) -> dict[str, float]:
    drawn = problems.draw("sorting", KNOWN + TEST, 5, seed)
    given, test = (drawn.take(part) for part in keyed.permutation(int(keyed.fold(seed, "order")), len(drawn)).split([KNOWN, TEST]))
    common = {"seed": seed, "train__batch": 32}
    start = learn("sft", models.build("tiny-lm", given.modality, (), seed, width=48), given, steps=START, optim__lr=3e-3, **common).student

    def played(kind: str | type[SPIN] = "spin") -> float:
        return solved(learn(kind, start, given, steps=STEPS, settings={"samples": 2, "beta": 5.0}, optim__lr=1e-4, **common).student, test, CHECK)

    return {
        "start": solved(start, test, CHECK),
        "more training": solved(learn("sft", start, given, steps=STEPS, optim__lr=3e-3, **common).student, test, CHECK),
        "more training, slowly": solved(learn("sft", start, given, steps=STEPS, optim__lr=1e-4, **common).student, test, CHECK),
        "spin": played(),
        "own answers preferred": played(OwnFirst),
    }


claim = Claim(
    system="spin",
    says="Preferring the given answers over its own teaches a model more than as many further steps of fine-tuning on them.",
    effect=("spin", "more training"),
    run=run,
    negative=("own answers preferred",),
    checks={"it also beats fine-tuning at its own rate": lambda figures: beats(figures["spin"], figures["more training, slowly"])},
    observed={"it beats its own start": lambda figures: beats(figures["spin"], figures["start"])},
    data="sorting of up to 5 digits: 200 examples",
    minutes_budget=4,
)
