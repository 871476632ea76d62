"""W-MSE (2007.06346): whitening is all that keeps attraction between views from collapse, and the features are worth having.

Digits of 8x8 pixels and a tiny residual network; features are probed with five labels a class (mean of ten draws), as with all labels even a random network comes
near the top. Arms: the network as it starts (the control); W-MSE; the same number of the same steps without whitening, which must collapse; the pixels.

Found on seeds 0 to 4 (kept as it fell): W-MSE is far above its start (0.69 to 0.39). Without whitening the outputs collapse (rank 1.4 of 17) as they must, but features
are still worth 0.04 more than at the start, so that the broken arm beats the control and the verdict is unclear: the start's batch normalisation has seen no data,
and a control that has (a rate of zero, as in obow's claim) would have been the fairer one. The pixels are worth more than all of it (0.83).
"""

from unittest import mock

import torch

from understudy import evaluate, models
from understudy.claims import Claim, beats, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.maths import decorrelation
from understudy.models import Student

STEPS, SHOTS = 150, 5
SETTINGS = {"view": "strong", "width": 32, "hidden": 128}
COMMON = {"train__batch": 128, "optim__lr": 1e-2, "watch__action": "off"}


def pixels(samples: Samples) -> torch.Tensor:
    return torch.cat([batch.view("plain").inputs["pixels"].flatten(1) for batch in samples.batches(512)])


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.digits(), 0.3, seed)
    unlabelled = known.few_labels(train, 0, seed)
    start = models.build("tiny-resnet", train.modality, train.classes, seed, widths=(8, 16, 32))

    def worth(features: torch.Tensor, of_test: torch.Tensor) -> float:
        return evaluate.few_shot(features, train.labels, of_test, test.labels, SHOTS, key=seed).mean

    def probed(student: Student) -> float:
        return worth(evaluate.features(student, train), evaluate.features(student, test))

    learned = learn("w-mse", start, unlabelled, seed=seed, steps=STEPS, settings=SETTINGS, **COMMON)
    with mock.patch.object(decorrelation, "whitened", lambda z, eps: z):
        collapsed = learn("w-mse", start, unlabelled, seed=seed, steps=STEPS, settings=SETTINGS, **COMMON)
    return {
        "random init": probed(start),
        "w-mse": probed(learned.student),
        "no whitening": probed(collapsed.student),
        "pixels": worth(pixels(train), pixels(test)),
        "rank": learned.facts["rank"],
        "rank, no whitening": collapsed.facts["rank"],
    }


claim = Claim(
    system="w-mse",
    says="A few-shot probe on features learned without labels beats the same probe on the network that learning began with.",
    effect=("w-mse", "random init"),
    run=run,
    negative=("no whitening",),
    checks={
        "without whitening the outputs lose rank": lambda f: beats(f["rank"], f["rank, no whitening"]),
        "the features are worth more than those of the collapsed network": lambda f: beats(f["w-mse"], f["no whitening"]),
    },
    observed={"the features are worth more than the pixels": lambda f: beats(f["w-mse"], f["pixels"])},
    data="digits, 8x8, probed with five labels a class",
    minutes_budget=2,
)
