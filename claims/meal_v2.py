"""MEAL V2 (2009.08453): a student that has learned its labels gains more from what several teachers say, and no label, than from the labels once more.

Digits on a canvas of 20 x 20 pixels over patches of other digits, 400 of them. Three teachers and a smaller student learn the labels; then the student goes on,
from the same weights and for as many steps. Arms: the labels (the control); MEAL V2; without discriminator; one teacher alone; three teachers about another sample,
which must fail.

Not tuned. Found on seeds 0 to 4 (kept as it fell): going on with three teachers (0.57) is no better than going on with the labels (0.58); three teachers are better
than one by 0.02, and the discriminator does nothing. A start that has learned for 120 steps still gains from labels, unlike the paper's.
A later start does not help, on seed 100: after 500 steps (0.866, teachers 0.857) 0.864 and 0.864; half the widths after 400 (0.638, teachers 0.90) labels 0.669 and meal-v2 0.676, 200 digits
0.741 and 0.750. Seeds 5 to 9, as here: unclear again, 0.57 to 0.59.
"""

from understudy import keyed, models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import Batch, View
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.teachers.base import Signals, Teacher
from understudy.teachers.kinds import Ensemble, Frozen

FIRST, STEPS, SAMPLES = 120, 100, 400
COMMON = {"optim__name": "adamw", "optim__weight_decay": 0.0, "train__batch": 64}


class AboutAnother(Ensemble):
    """Answers about the next sample of the batch."""

    def answer(self, batch: Batch, view: View) -> Signals:
        return Signals(probabilities=super().answer(batch, view).soft().roll(1, 0))


def run(seed: int) -> dict[str, float]:
    everything, test = hold_out(known.digits_on_canvas(20, seed), 0.4, seed)
    train = everything.take(keyed.permutation(keyed.fold(seed, "few"), len(everything))[:SAMPLES])

    def trained(widths: tuple[int, ...], key: int) -> Student:
        first = models.build("tiny-resnet", train.modality, train.classes, key, widths=widths)
        return learn("supervised", first, train, seed=key, steps=FIRST, optim__lr=1e-2, **COMMON).student

    teachers = [trained((16, 32, 64), seed + 1000 * i) for i in (1, 2, 3)]
    start = trained((8, 16, 32), seed)

    def told_by(kind: type[Ensemble], count: int) -> Teacher:
        return kind([Frozen(teacher.clone()) for teacher in teachers[:count]])

    def arm(slug: str, teacher: Teacher | None = None, **settings: object) -> float:
        return accuracy(learn(slug, start, train, seed=seed, steps=STEPS, teacher=teacher, settings=settings, optim__lr=3e-3, **COMMON).student, test)

    return {
        "labels": arm("supervised"),
        "meal-v2": arm("meal-v2", told_by(Ensemble, 3)),
        "no discriminator": arm("meal-v2", told_by(Ensemble, 3), discriminator=0.0),
        "one teacher": arm("meal-v2", told_by(Ensemble, 1)),
        "about another sample": arm("meal-v2", told_by(AboutAnother, 3)),
        "start": accuracy(start, test),
        "first teacher": accuracy(teachers[0], test),
    }


claim = Claim(
    system="meal-v2",
    says="Going on with the averaged answers of three teachers makes a more accurate student than going on with the labels.",
    effect=("meal-v2", "labels"),
    run=run,
    negative=("about another sample",),
    checks={"three teachers are no worse than one": lambda f: not beats(f["one teacher"], f["meal-v2"])},
    observed={
        "three teachers are better than one": lambda f: beats(f["meal-v2"], f["one teacher"]),
        "better than without the discriminator": lambda f: beats(f["meal-v2"], f["no discriminator"]),
    },
    data="400 digits on a canvas",
    minutes_budget=4,
)
