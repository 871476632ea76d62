"""A step of FixMatch at 32 px, 32 labelled and 96 unlabelled images: seconds of USB (semilearn) over ours. Target: 1.5.

The same network (small-resnet) and optimiser, two cores, each side in its own loop with its own views, EMA and bookkeeping; USB has its usual three workers
(``bench/peers/fixmatch.py``). That a step of ours reads nothing back from the device is tested (tests/contract/test_host_reads.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import Line, line
from bench.peers import Peer
from bench.peers.serving import pin
from bench.rows.views import photographs
from bench.turns import Turns
from understudy import models, systems
from understudy.data.modalities.image import ImageModality
from understudy.data.samples import InMemory, Samples
from understudy.engine.loop import Loop
from understudy.engine.run import Run
from understudy.settings import RunSettings
from understudy.systems.base import Task

BATCH, COUNT = 32, 2048


def measure(part: str, quick: bool) -> Iterator[Line]:
    steps, repeats = (4, 3) if quick else (10, 9)
    pin(2)
    images = photographs(32, COUNT)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images.numpy())
        with Peer("fixmatch", 2, images=str(Path(folder) / "images.npy"), batch=BATCH) as peer:
            turns = Turns({"semilearn": peer}, steps)
            train(images, steps * (repeats + 1), Run(Path(folder) / "run", turns))
            ratios = [theirs / ours for ours, theirs in zip(turns.ours, turns.theirs["semilearn"], strict=True)]
            ms = [1e3 * sorted(x)[len(x) // 2] / steps for x in (turns.ours, turns.theirs["semilearn"])]
            yield line(
                "fixmatch/step", ratios, f"x semilearn (ours {ms[0]:.0f} ms, theirs {ms[1]:.0f} ms)", None, "semilearn", peer.versions["semilearn"], least=1.5
            )


def train(images: torch.Tensor, steps: int, run: Run) -> None:
    kind: Any = systems.get("fixmatch")
    modality, classes = ImageModality(size=32), tuple(map(str, range(10)))
    half = torch.arange(len(images)) < len(images) // 2
    samples = Samples(
        modality, InMemory({"image": images}), tuple(map(str, range(len(images)))), torch.where(half, torch.arange(len(images)) % 10, -1), classes
    )
    own = {
        **kind.defaults, "train.steps": steps, "train.batch": BATCH, "optim.name": "sgd", "optim.lr": 0.03, "optim.weight_decay": 5e-4, "optim.warmup": 0.0,
        "device": "cpu", "checkpoint.every": 10**6,
    }  # fmt: skip
    task = Task(samples, models.build("small-resnet", modality, classes, key=1), RunSettings().changed(own), run)
    objective = kind(kind.Settings(momentum=0.999), task)
    Loop(objective, objective.samples(), task.settings, run).to_the_end()
