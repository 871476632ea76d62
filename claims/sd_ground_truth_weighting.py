"""Ground truth in self-distillation (2102.13088): a share of the labels in every target keeps generations of self-distillation from shrinking to nothing.

Ridge regression on the features of a random network, 300 digits of which 40 % have a label drawn at random, twenty generations. The figure is the squared error of
the predictions against the true one-hot labels of the test digits. All arms fit as many times, and none takes longer than another.

Arms: no labels after the first fit (the control); the share of the labels chosen on validation in closed form, each generation anew; the share chosen, but with
the labels of other samples in the mix, which must fail; the first fit. Two exact statements of the paper are checked besides: with a constant share the
limit is one ridge regression of a larger penalty, and without labels the error falls at first and rises afterwards.

The first run, on seeds 0 to 4, put the last statement wrongly, as forty generations being worse than the first fit. That failed (0.70 to 0.75), so its verdict was
unclear, with an effect of 0.0083 (standard error 0.0032). Nothing but that check was changed. Seeds 5 to 9 then gave 0.019 with standard error 0.003, and seeds 20 to 24
0.017 with 0.009 (unclear). Since the effect is steady and a seed takes seconds, twelve seeds that nobody had seen, 40 to 51, were decided on for the kept run.
"""

from unittest import mock

import torch

from understudy import keyed, maths, models
from understudy.claims import Claim, beats, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.models.predict import features, predict
from understudy.systems.sd.sd_ground_truth_weighting import one_hot

SAMPLES, NOISE, GENERATIONS, PENALTY = 300, 0.4, 20, 3.0
HONEST = maths.progressive


def noisy(samples: Samples, seed: int) -> Samples:
    few = samples.take(keyed.permutation(keyed.fold(seed, "few"), len(samples))[:SAMPLES])
    keys = keyed.fold(keyed.fold(seed, "noise"), few.keys)
    return few.relabelled(torch.where(keyed.bernoulli(keys, NOISE), keyed.integers(keyed.fold(keys, "class"), 10), few.labels))


def run(seed: int) -> dict[str, float]:
    everything, test = hold_out(known.digits(), 0.4, seed)
    train, validation = hold_out(noisy(everything, seed), 0.3, seed)
    start = models.build("tiny-resnet", train.modality, train.classes, seed, widths=(16, 32, 128))
    truth = one_hot(test)

    def said(generations: int, share: float | None) -> torch.Tensor:
        settings = {"generations": generations, "label_share": share, "penalty": PENALTY}
        return predict(learn("sd-ground-truth-weighting", start, train, seed=seed, validation=validation, settings=settings).student, test)

    def error(generations: int, share: float | None) -> float:
        return float((said(generations, share) - truth).square().sum(1).mean())

    figures = {"labels weighted": error(GENERATIONS, None), "no labels": error(GENERATIONS, 0.0), "first fit": error(1, None)}
    figures |= {f"no labels, {t} generations": error(t, 0.0) for t in (2, 3, 5, 40)}
    with mock.patch.object(maths, "progressive", lambda y, said, alpha: HONEST(y.roll(1, 0), said, alpha)):
        figures["labels of others"] = error(GENERATIONS, None)
    x, penalty = features(start, train), PENALTY
    weight, bias = maths.ridge(x, one_hot(train), penalty * float(x.var(0).mean()) / 0.25)
    limit = features(start, test).double() @ weight.T + bias
    figures["distance from the limit"] = float((said(80, 0.25) - limit).abs().max())
    return figures


claim = Claim(
    system="sd-ground-truth-weighting",
    says="After twenty generations of self-distillation, predictions are nearer to the truth where the labels kept a share of the targets, chosen in closed form.",
    effect=("labels weighted", "no labels"),
    run=run,
    higher=False,
    negative=("labels of others",),
    checks={
        "with a constant share the limit is the ridge regression of penalty / share": lambda f: max(f["distance from the limit"]) < 1e-3,
        "without labels, the error rises again after it fell": lambda f: beats(f["no labels, 40 generations"], f["no labels, 5 generations"]),
    },
    observed={
        "without labels, the second generation is better than the first": lambda f: beats(f["first fit"], f["no labels, 2 generations"]),
        "labels weighted are better than the first fit": lambda f: beats(f["first fit"], f["labels weighted"]),
    },
    data="300 digits, 40 % of the labels redrawn at random",
    minutes_budget=1,
)
