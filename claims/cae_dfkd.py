"""CAE-DFKD (2504.21478): without any data, a student learns what its teacher knows on images that a generator makes for it.

Digits of 8x8 pixels, which only the teacher, a small residual network, has seen. The student, of the same kind, learns on images of a generator alone and is then tested on
digits. All arms take as many steps of as many images: CAE-DFKD; the same with a generator that stays as it began, whose images are noise (the control); without the
contrast of embeddings; with ten times as much of it; and a teacher that never learned, which must fail. What embeddings are worth elsewhere, the paper's other claim, is measured on clothes of
as many pixels, which neither teacher nor student has seen: ``..., clothes``, a probe on the student's features with 20 labels a class (mean of ten draws).

Tried before on seeds 100 to 103, accuracy and that with an untrained generator: 200 steps at rate 5e-3: 0.30 (0.17); 120 steps at 1e-2 with a generator of width 16: 0.18 (0.10); 400
steps at 5e-3: 0.49 (0.24); 400 at 1e-2: 0.62 (0.26); 400 at 2e-2, which is run: 0.71, 0.77, 0.68 and 0.68 (0.27, 0.22, 0.45, 0.46). More certainty, less of the statistics or
no disagreement made nothing better. The contrast with its weight of 1 does not tell: accuracy 0.71, 0.77, 0.68, 0.68, without it 0.75, 0.69, 0.68, 0.59; clothes 0.62, 0.63, 0.62, 0.61, without it 0.60, 0.61,
0.63, 0.59. With a weight of 10 clothes had 0.63, 0.64, 0.64, 0.63, but digits only 0.56, 0.46, 0.55 and 0.38: what transfers and what answers compete here, so the check of
the embeddings looks at that arm. A generator that is told no class, whose images are named by the teacher, taught as much on seeds 100 to 102 (350 to 400 steps: 0.64, 0.56, 0.53; told 0.62, 0.50, 0.43).

Seeds from 20 on (``--first-seed 20``): by an oversight seeds 5 to 7 were run with an earlier layout (250 steps at 1e-2, width 16: 0.32, 0.38 and 0.38, untrained generator 0.14, 0.26, 0.10) after this
one was written.
"""

from typing import Any

import torch
import torch.nn.functional as F

from understudy import evaluate, models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.teachers.kinds import Frozen

STEPS, CLOTHES = 400, 3000
SETTINGS: dict[str, Any] = {"width": 32}
COMMON: dict[str, Any] = {"train__batch": 64, "optim__lr": 2e-2, "watch__action": "off"}


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.digits(), 0.3, seed)
    others, unseen = hold_out(clothes(train), 0.5, seed)
    fresh = models.build("tiny-resnet", train.modality, train.classes, seed + 1000, widths=(8, 16, 32))
    teacher = learn("supervised", fresh, train, seed=seed, steps=300, train__batch=64, optim__lr=1e-2).student
    start = models.build("tiny-resnet", train.modality, train.classes, seed, widths=(8, 16, 32))

    def learned(told: Student = teacher, **settings: float) -> Student:
        return learn("cae-dfkd", start, train, seed=seed, steps=STEPS, teacher=Frozen(told.clone()), settings={**SETTINGS, **settings}, **COMMON).student

    def elsewhere(student: Student) -> float:
        seen, new = (evaluate.features(student, part) for part in (others, unseen))
        return evaluate.few_shot(seen, others.labels, new, unseen.labels, 20, key=seed).mean

    arms = {
        "cae-dfkd": learned(),
        "untrained generator": learned(rate=1e-12),
        "answers alone": learned(embedding=0.0),
        "much contrast": learned(embedding=10.0),
        "untrained teacher": learned(told=fresh),
    }
    return {name: accuracy(student, test) for name, student in arms.items()} | {f"{name}, clothes": elsewhere(student) for name, student in arms.items()}


def clothes(like: Samples) -> Samples:
    """Fashion-MNIST without its margin, as small as the images of ``like``."""
    large = known.fashion_mnist()[0].take(torch.arange(CLOTHES))
    small = F.interpolate(large.encoded.raw(large.positions)["image"][:, :, 2:26, 2:26].float(), size=(8, 8), mode="area")
    return Samples(like.modality, InMemory({"image": small.round().to(torch.uint8)}), large.ids, large.labels, large.classes)


claim = Claim(
    system="cae-dfkd",
    says="Without data, a student is more accurate that learns on images of a generator which learns beside it than on those of one that stays as it began.",
    effect=("cae-dfkd", "untrained generator"),
    run=run,
    negative=("untrained teacher",),
    checks={
        "with much contrast its embedding is worth more on other data than that of answers alone": lambda f: beats(
            f["much contrast, clothes"], f["answers alone, clothes"]
        )
    },
    observed={
        "its embedding is worth more on other data than that of answers alone": lambda f: beats(f["cae-dfkd, clothes"], f["answers alone, clothes"]),
        "its answers are better with the contrast": lambda f: beats(f["cae-dfkd"], f["answers alone"]),
    },
    data="digits, 8x8, seen by the teacher alone; clothes, 8x8, for the embedding",
    minutes_budget=5,
)
