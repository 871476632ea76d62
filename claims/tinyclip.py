"""TinyCLIP: a small model of images and captions, cut out of a larger one and told how near that one finds every image to every caption, beats one that begins with nothing.

Digits are coloured, and captions say the colour and the digit. The figure is the accuracy on held-out images, told apart by the 60 names in two prompts of
the captions' kind. The teacher, a CLIP model of 280,000 weights, has learned the pairs for 500 steps; students have 53,000 weights and 150 steps. All see
images as they are.

- ``tinyclip``: three stages of 50 steps, each a cut of the one before; the effect's treatment.
- ``contrast``: the student with CLIP's own loss from nothing; the control.
- ``affinities``: the student learns the teacher's affinities from nothing.
- ``one cut``: cut to the student's size at once, then 150 steps; every step costs what one of the control does, where those of the first two stages are of
  larger models.
- ``cut and contrast``: the three stages with CLIP's own loss.
- ``of another``: the affinities from nothing, but every image is told those of another; broken on purpose.

Looked at before: seeds 100 and 101, with these settings (0.62, ``contrast`` 0.18), and the teacher alone: in weak views, which move images of 8x8 pixels, it
learns far slower (0.09 after 200 steps).

Found on seeds 5 to 9: most of the gain is inheritance. Affinities from nothing have 0.28 where ``contrast`` has 0.19, but after the cuts they are no better
than true pairs (0.54 and 0.54); and one cut (0.64) beats three stages of fifty steps each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from understudy import models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import Inputs
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.zero_shot import by_names
from understudy.systems.kd_vlm.tinyclip_stage import TinyCLIPStage
from understudy.teachers.kinds import Frozen

TEACHER, STEPS = 500, 150
PROMPTS = ("a {}", "someone wrote a {}")
COMMON: dict[str, Any] = {"train__batch": 128, "optim__lr": 2e-3, "watch__action": "off"}


class OfAnother(TinyCLIPStage):
    """Every image is told the affinities of the next one in the batch."""

    def told(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        images, texts = super().told(inputs)
        return images.roll(1, 0), texts


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.captioned_digits(2), 0.3, seed)
    images = replace(test, modality=test.modality.image)  # type: ignore[attr-defined]
    whole = models.build("tiny-clip", train.modality, (), seed + 1000, width=64, depth=3, text_depth=2, heads=4)
    teacher = learn("clip", whole, train, seed=seed, steps=TEACHER, settings={"view": "plain"}, **COMMON).student
    start = models.build("tiny-clip", train.modality, (), seed, width=32, depth=2, text_depth=1, heads=2)

    def named(student: Student) -> float:
        return accuracy(by_names(student, images.classes, PROMPTS), images)

    def learned(kind: str | type[TinyCLIPStage], **options: Any) -> float:
        if kind != "clip":
            options["teacher"] = Frozen(teacher.clone())
        return named(learn(kind, start, train, seed=seed, steps=STEPS, **COMMON, **options).student)

    plain = {"tinyclip-stage.view": "plain"}
    return {
        "tinyclip": learned("tinyclip", **plain),
        "contrast": learned("clip", settings={"view": "plain"}),
        "affinities": learned("tinyclip-stage", settings={"view": "plain"}),
        "one cut": learned("tinyclip", settings={"stages": 1}, **plain),
        "cut and contrast": learned("tinyclip", **plain, **{"tinyclip-stage.mimicking": 0.0}),
        "of another": learned(OfAnother, settings={"view": "plain"}),
        "teacher": named(teacher),
    }


claim = Claim(
    system="tinyclip",
    says="A small model cut out of a larger one in stages, which learns that one's affinities, tells images by name better than as small a one after as many steps of contrast.",
    effect=("tinyclip", "contrast"),
    run=run,
    negative=("of another",),
    checks={
        "affinities teach more than true pairs from the same start": lambda f: beats(f["affinities"], f["contrast"]),
        "inherited weights are a better start than fresh ones": lambda f: beats(f["tinyclip"], f["affinities"]),
    },
    observed={
        "three cuts are better than one": lambda f: beats(f["tinyclip"], f["one cut"]),
        "affinities teach more than true pairs after the cuts, too": lambda f: beats(f["tinyclip"], f["cut and contrast"]),
    },
    data="digits, 8x8, in six colours, with captions",
    minutes_budget=5,
)
