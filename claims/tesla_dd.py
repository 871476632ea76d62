"""TESLA (2211.10586): ten learned images teach a network more than ten real ones.

Digits of 8x8 pixels, one image of every class. Every student is the same small network of one convolution with instance normalisation, and takes 60 steps of plain gradient descent on its ten
images. Arms: the images that TESLA learns (140 steps) with the rate that it learns; random real images, the same that TESLA begins with or others like them, at the experts' rate (the control);
the mean image of every class; TESLA with the experts' soft labels; and TESLA with experts that learned labels of other images, which must fail.

Tried before on seeds 100 to 103: residual networks as students and experts, which learn hardly anything of 8x8 pixels by plain gradient descent (0.10, real images 0.52); labels that follow the
expert of every step, as in released code, with which the distance grew; soft labels that stay: 0.80 and 0.92 on seeds 102 and 100, where hard labels gave 0.94 and 0.93 and real images 0.55 and 0.71;
rates of the images from 0.003 to 0.06 (0.75, 0.90, 0.93 at 0.003, 0.01, 0.03); 10, 15 and 20 steps of the walk; three images a class (0.94, real ones 0.87).
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from torch import Tensor

from understudy import keyed, models
from understudy.claims import Claim, accuracy, beats, learn
from understudy.data import known
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out
from understudy.systems.kd_data.tesla_dd_images import TeslaDDImages

STEPS, STUDENT = 200, 60
PLAIN: dict[str, Any] = {"optim__name": "sgd", "optim__momentum": 0.0, "optim__weight_decay": 0.0, "optim__warmup": 0.0, "optim__schedule": "constant"}


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.digits(), 0.3, seed)
    start = models.build("tiny-convnet", train.modality, train.classes, seed, depth=1)

    def on(few: Samples) -> float:
        settings = {"view": "plain"}
        return accuracy(learn("supervised", start, few, seed=seed, steps=STUDENT, settings=settings, train__batch=10, optim__lr=0.1, **PLAIN).student, test)

    def learned(**settings: Any) -> float:
        return accuracy(learn("tesla-dd", start, train, seed=seed, steps=STEPS, settings=settings, watch__action="off").student, test)

    figures = {
        "learned images": learned(),
        "real images": on(known.few_labels(train, 1, seed).labelled),
        "means": on(means(train)),
        "soft labels": learned(soft=True),
    }
    honest = TeslaDDImages.expert
    with mock.patch.object(TeslaDDImages, "expert", lambda self, number, real: honest(self, number, shuffled(real, seed))):
        figures["experts of other labels"] = learned()
    return figures


def means(samples: Samples) -> Samples:
    """The mean image of every class."""
    image = samples.encoded.raw(samples.positions)["image"].float()
    classes = torch.arange(len(samples.classes))
    rows: list[Tensor] = [image[samples.labels == y].mean(0) for y in classes]
    return Samples(
        samples.modality, InMemory({"image": torch.stack(rows).round().to(torch.uint8)}), tuple(f"mean/{y}" for y in samples.classes), classes, samples.classes
    )


def shuffled(samples: Samples, seed: int) -> Samples:
    """The same labels, on other samples."""
    return samples.relabelled(samples.labels[keyed.permutation(int(keyed.fold(seed, "shuffled")), len(samples))])


claim = Claim(
    system="tesla-dd",
    says="A network is more accurate that learned one learned image of every class than one that learned one real image of every class, in as many steps.",
    effect=("learned images", "real images"),
    run=run,
    negative=("experts of other labels",),
    checks={"they teach more than the means of the classes": lambda f: beats(f["learned images"], f["means"])},
    observed={"soft labels of the experts teach more than the classes": lambda f: beats(f["soft labels"], f["learned images"])},
    data="digits, 8x8, 1,257 images made into ten",
    minutes_budget=4,
)
