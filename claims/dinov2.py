"""DINOv2 (2304.07193): features learned by predicting a moving average of oneself are worth having, and each safeguard is there for a reason.

Digits at random places of a canvas of 16 pixels, where a linear probe finds little in the pixels, and a tiny residual network; the figure is a linear probe on
frozen features with all labels of the training samples. All arms but ``random init`` and ``pixels`` take the same steps on the same unlabelled samples.

- ``full``: DINO over two large and two small crops + iBOT + KoLeo, balanced by Sinkhorn-Knopp. ``DINO alone``: without iBOT and KoLeo.
- ``no centring``: DINO alone without balance: the teacher must come to give everything the same prototype.
- ``no sharpening``: DINO alone with a moving centre and a teacher temperature of 1: every target must become uniform.

The entropies of the teacher's targets are recorded as shares of ln K: ``entropy``, the mean of a sample's; ``spread``, that of the mean target.
The collapsed networks are no worse than the network that learning began with, because blocks that begin as the identity have been switched on and batch
statistics are those of the data. They are thus the harder control, with as many steps and nothing learned: ``full`` must beat them too.

Chosen on seed 100: the teacher's temperature 0.01 (at 0.04 to 0.07 all targets stayed uniform in 300 steps of this size), rate 1e-2 and large crops of 50 %
and more (5e-3 and 32 % gave less); no distractors; a residual network, since a tiny vision transformer (0.47 after 250 steps) did not get beyond its
own collapsed versions (0.50). A nearest-neighbour probe is not judged: it finds the same digit at the same place among the pixels (0.76).
"""

from __future__ import annotations

from typing import Any

import torch

from understudy import evaluate, models
from understudy.claims import Claim, beats, learn, probe
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.systems.base import Outcome

STEPS = 300
SETTINGS: dict[str, Any] = {
    "prototypes": 128, "hidden": 64, "bottleneck": 32, "global_scale": (0.5, 1.0), "locals": 2, "local_scale": (0.2, 0.5), "momentum": (0.95, 1.0),
    "teacher_temperature": (0.01, 0.01), "blur": (0.0, 0.0, 0.0), "solarise": (0.0, 0.0, 0.0),
}  # fmt: skip
ALONE = {"ibot_weight": 0.0, "koleo_weight": 0.0}
# The watch would stop the broken arms.
COMMON: dict[str, Any] = {"train__batch": 64, "optim__lr": 1e-2, "watch__action": "off"}


def pixels(samples: Samples) -> torch.Tensor:
    return torch.cat([batch.view("plain").inputs["pixels"].flatten(1) for batch in samples.batches(512)])


def run(seed: int) -> dict[str, float]:
    train, test = hold_out(known.digits_on_canvas(16, digit=10, distractors=0), 0.3, seed)
    unlabelled = known.few_labels(train, 0, seed)
    start = models.build("tiny-resnet", train.modality, train.classes, seed)

    def learned(**settings: Any) -> Outcome:
        return learn("dinov2", start, unlabelled, seed=seed, steps=STEPS, settings={**SETTINGS, **settings}, **COMMON)

    outcomes = {
        "full": learned(),
        "DINO alone": learned(**ALONE),
        "no centring": learned(**ALONE, centring="none"),
        "no sharpening": learned(**ALONE, centring="centre", teacher_temperature=(1.0, 1.0)),
    }
    figures = {name: probe(outcome.student, train, test) for name, outcome in outcomes.items()}
    figures["random init"] = probe(start, train, test)
    figures["pixels"] = evaluate.linear_probe(pixels(train), train.labels, pixels(test), test.labels).value
    figures |= {f"rank, {name}": outcomes[name].facts["rank"] for name in ("full", "DINO alone")}
    for name in ("full", "DINO alone", "no centring", "no sharpening"):
        figures |= {f"{kind}, {name}": outcomes[name].facts[f"teacher_{kind}"] for kind in ("entropy", "spread")}
    return figures


claim = Claim(
    system="dinov2",
    says="A linear probe on features learned without labels beats the same probe on the network that learning began with, on collapsed ones, and on pixels.",
    effect=("full", "random init"),
    run=run,
    checks={
        "the features are worth more than the pixels": lambda f: beats(f["full"], f["pixels"]),
        "without centring they are worth less": lambda f: beats(f["full"], f["no centring"]),
        "without sharpening they are worth less": lambda f: beats(f["full"], f["no sharpening"]),
        "without centring the teacher gives everything the same prototype": lambda f: max(f["spread, no centring"]) < 0.02,
        "without sharpening the teacher's targets are uniform": lambda f: min(f["entropy, no sharpening"]) > 0.999,
        "neither happens with both": lambda f: all(min(f[f"spread, {a}"]) > 0.5 and max(f[f"entropy, {a}"]) < 0.95 for a in ("full", "DINO alone")),
    },
    observed={
        "iBOT and KoLeo raise the effective rank of the features": lambda f: beats(f["rank, full"], f["rank, DINO alone"]),
        "iBOT and KoLeo pay": lambda f: beats(f["full"], f["DINO alone"]),
        "DINO alone beats the network that learning began with": lambda f: beats(f["DINO alone"], f["random init"]),
    },
    data="digits at random places of a 16x16 canvas",
    minutes_budget=5.5,
)
