"""GKD (2306.13649): a student that is corrected on its own answers learns more than one that is shown the teacher's probabilities on given answers.

The paper distils T5-XL to smaller T5s on summaries, translation and GSM8K; here a small transformer that sorts up to six digits teaches a smaller one. The teacher has
learned 3,000 problems; the student sees 100 prompts, with the answers that the teacher writes to them.

Arms, all from one start (100 steps on the teacher's answers, as the paper begins with a fine-tuned student) and for as many steps: on-policy, the student's own
answers; off-policy, the teacher's answers with its probabilities for each token (supervised KD); the teacher's answers alone (sequence-level KD); on-policy
from a teacher that has learned nothing, which must fail.
"""

from __future__ import annotations

from understudy import keyed, models
from understudy.claims import Claim, beats, learn, solved
from understudy.data import problems
from understudy.teachers.kinds import Frozen
from understudy.teachers.rewards import Checked
from understudy.teachers.writers import PolicyWriter, Sampling, answered

TEACHING, START, STEPS, MANY, FEW, TEST = 400, 100, 200, 3000, 100, 400
CHECK = Checked(problems.KINDS["sorting"].right)


def run(seed: int) -> dict[str, float]:
    drawn = problems.draw("sorting", MANY + FEW + TEST, 6, seed)
    many, few, test = (drawn.take(part) for part in keyed.permutation(int(keyed.fold(seed, "order")), len(drawn)).split([MANY, FEW, TEST]))
    common = {"seed": seed, "train__batch": 32, "optim__lr": 3e-3}
    untaught = models.build("tiny-lm", many.modality, (), seed)
    teacher = learn("sft", untaught, many, steps=TEACHING, **common).student
    written = answered(few, PolicyWriter(teacher, Sampling(temperature=1.0)), seed)  # type: ignore[arg-type]
    start = learn("sft", models.build("tiny-lm", many.modality, (), seed, width=32), written, steps=START, **common).student

    def taught(by: models.Student, on_policy: float) -> float:
        settings = {"on_policy": on_policy}
        return solved(learn("gkd", start, written, teacher=Frozen(by.clone()), settings=settings, steps=STEPS, **common).student, test, CHECK)

    return {
        "start": solved(start, test, CHECK),
        "answers alone": solved(learn("sft", start, written, steps=STEPS, **common).student, test, CHECK),
        "off-policy": taught(teacher, 0.0),
        "on-policy": taught(teacher, 1.0),
        "untaught teacher": taught(untaught, 1.0),
        "teacher": solved(teacher, test, CHECK),
    }


claim = Claim(
    system="gkd",
    says="At the same prompts and steps, a student learns more from the teacher's view of its own answers than of the teacher's answers.",
    effect=("on-policy", "off-policy"),
    run=run,
    negative=("untaught teacher",),
    checks={"on-policy beats the teacher's answers alone": lambda figures: beats(figures["on-policy"], figures["answers alone"])},
    data="sorting of up to 6 digits, 100 prompts",
    minutes_budget=4,
)
