"""ScaleKD: a convolutional student with 20 labels a class learns from a transformer's tokens, projected by attention and passed through its last blocks, what its labels do not say.

Clothes at 16x16 pixels (Fashion-MNIST made smaller). The teacher is a vision transformer that has learned 8,000 labels; the student, a small residual
network, gets 200 images, all with labels, as the paper's does. All arms see images as they are and take 200 steps of 32 from one initialisation; the figure
is the accuracy on 5,000 test images.

- ``tokens``: ScaleKD without the teacher's probabilities (``weight=0``), which are nothing new; the effect's treatment.
- ``labels only``: as many steps on the labels; the control.
- ``of another``: as ``tokens``, but they are those of another image of the batch; broken on purpose.
- ``convolution``: the last map alone, through a convolution of 1x1, against the teacher's tokens, as the usual feature distillation does, with the weight of
  all four distances together.
- ``logits``: the teacher's probabilities and the labels, no tokens. ``all``: ScaleKD as published, tokens, probabilities and labels.

Withdrawn: the same on 300 images of which 50 had labels, with the paper's weights, seeds 5 to 9, when the attention's scores were not yet multiplied by 5 as
the released code has it (the figures of the first four seeds were seen before that was found). The verdict was unclear: ``tokens`` 0.61, ``labels only`` 0.60
(0.011, standard error 0.007), ``of another`` 0.58, but ``convolution`` 0.71, ``logits`` 0.75, ``all`` 0.74, the teacher 0.79. Hence seeds from 20 on
(``--first-seed 20``).

Tried since on seeds 100 and 101, with the factor of 5: on those 300 images ``tokens`` 0.64 and 0.62, ``labels only`` 0.60 and 0.60; at a third of the rate
0.57 and 0.62; on 2,000 images of which 100 have labels 0.56 to 0.59, ``labels only`` 0.65. On the 200 images with labels here 0.71 and 0.72 with a tenth or a
third of the paper's weights, ``labels only`` 0.70 and 0.72. What a projector can learn by itself in so few steps the student need not; a convolution of 1x1
can learn little, and leaves it to the student. The paper has 300 epochs of a million images.

Found on seeds 20 to 24: a gain, and a small one (0.729, ``labels only`` 0.717, 2.6 standard errors), which also adds to the probabilities (``all`` 0.762,
``logits`` 0.753). A convolution of 1x1 has three times as much (0.752): at this size attention is not what the paper says of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy import keyed, maths, models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.modalities.image import ImageModality
from understudy.data.samples import Batch, InMemory, Samples, View
from understudy.models.backbone import seeded
from understudy.systems.base import Task
from understudy.systems.kd_feature.scalekd import ScaleKD
from understudy.systems.kd_feature.trg import resized
from understudy.teachers.base import Signals
from understudy.teachers.kinds import Frozen

MANY, LABELS, TEACHER, STEPS = 8000, 20, 500, 200
SPATIAL, FREQUENCY = 1.2, 0.9


class OfAnother(Frozen):
    """Says of each image what it sees in the next one of the batch."""

    def answer(self, batch: Batch, view: View) -> Signals:
        said = super().answer(batch, view)
        assert said.tokens is not None
        return replace(said, tokens=said.tokens.roll(1, 0))


class Convolution(ScaleKD):
    """Each place of the last map against the teacher's token there."""

    def build(self, task: Task) -> None:
        super().build(task)
        width = self.told(task.train.batch(torch.arange(1)))[1].shape[-1]
        with seeded(task.key("convolution")):
            self.projectors = nn.Linear(self.student.backbone.token_width, width)

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        target, (logits, (_, last)) = self.told(everything)[1], self.maps(everything)
        seen = self.projectors(resized(last.flatten(2).transpose(1, 2), target.shape[1]))
        labels = (everything.labels >= 0) * maths.soft_cross_entropy(logits, everything.soft_labels())
        tokens = 2 * (SPATIAL + FREQUENCY) * 2 * maths.cosine_distance(seen, target).mean(1)
        return {"labels": everything.weighted(labels), "tokens": everything.weighted(tokens)}


def smaller(samples: Samples) -> Samples:
    """The same images with 16 pixels a side."""
    large = samples.encoded.raw(samples.positions)["image"].float()
    small = F.interpolate(large, size=(16, 16), mode="bilinear", antialias=True, align_corners=False).round().to(torch.uint8)
    return Samples(ImageModality(16, 1, flip=False), InMemory({"image": small}), samples.ids, samples.labels, samples.classes)


def run(seed: int) -> dict[str, float]:
    train, test = known.fashion_mnist()
    train = smaller(train.take(keyed.permutation(seed, len(train))[:MANY]))
    test = smaller(test.take(keyed.permutation(seed, len(test))[:5000]))
    plain: dict[str, Any] = {"view": "plain"}
    fresh = models.build("tiny-vit", train.modality, train.classes, seed, patch=4)
    teacher = learn("supervised", fresh, train, seed=seed, steps=TEACHER, settings=plain, train__batch=64, optim__lr=2e-3).student
    few = known.few_labels(train, LABELS, seed).labelled
    start = models.build("tiny-resnet", train.modality, train.classes, seed)
    common: dict[str, Any] = {"seed": seed, "steps": STEPS, "train__batch": 32, "optim__lr": 1e-2}

    def taught(kind: str | type[ScaleKD] = "scalekd", told: type[Frozen] = Frozen, **settings: float) -> float:
        given = {**plain, "spatial": SPATIAL, "frequency": FREQUENCY, "weight": 0.0, **settings}
        return accuracy(learn(kind, start, few, teacher=told(teacher.clone()), settings=given, **common).student, test)

    return {
        "tokens": taught(),
        "labels only": accuracy(learn("supervised", start, few, settings=plain, **common).student, test),
        "of another": taught(told=OfAnother),
        "convolution": taught(Convolution),
        "logits": taught(spatial=0.0, frequency=0.0, weight=0.5),
        "all": taught(weight=0.5),
        "teacher": accuracy(teacher, test),
    }


claim = Claim(
    system="scalekd",
    says="With few labels, a convolutional student that is also led to a transformer's tokens, by attention and through its last blocks, is more accurate than with the labels alone.",
    effect=("tokens", "labels only"),
    run=run,
    negative=("of another",),
    observed={
        "attention and the teacher's blocks teach more than a convolution of 1x1": lambda f: beats(f["tokens"], f["convolution"]),
        "tokens add to the teacher's probabilities": lambda f: beats(f["all"], f["logits"]),
    },
    data="Fashion-MNIST at 16x16 pixels, 200 labels; the teacher had 8,000",
    minutes_budget=7,
)
