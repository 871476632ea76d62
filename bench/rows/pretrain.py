"""A step of SimCLR at 96 px on two cores: seconds of lightly over ours. Target: 1.2.

The same backbone and projector, NT-Xent, AdamW and batch on all sides; views, loss, loading and loop are everybody's own (``bench/peers/pretrain.py``). Two
backbones: ViT-Tiny/16 (width 192, 12 blocks), where the step is almost all network, and the package's own small ViT (width 96, 4 blocks).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
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

BACKBONES = {"vit-tiny": {"width": 192, "depth": 12, "heads": 3, "patch": 16}, "small-vit": {"width": 96, "depth": 4, "heads": 3, "patch": 16}}
SIZE, BATCH = 96, 64
PEERS = ("lightly", "stable-pretraining")


def measure(part: str, quick: bool) -> Iterator[Line]:
    pin(2)
    images = photographs(SIZE, 1024)
    for name, options in BACKBONES.items():
        if not name.startswith(part):
            continue
        steps, repeats = (2, 3) if quick else (3, 4) if name == "vit-tiny" else (8, 6)
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            np.save(Path(folder) / "images.npy", images.numpy())
            given = {"images": str(Path(folder) / "images.npy"), "size": SIZE, "batch": BATCH, "options": options}
            peers = {peer: stack.enter_context(Peer("pretrain", 2, peer=peer, **given)) for peer in PEERS}
            turns = Turns(peers, steps)
            train(images, options, steps * (repeats + 1), Run(Path(folder) / "run", turns))
            ms = {who: 1e3 * sorted(x)[len(x) // 2] / steps for who, x in {"ours": turns.ours, **turns.theirs}.items()}
            for peer, seconds in turns.theirs.items():
                ratios = [theirs / ours for ours, theirs in zip(turns.ours, seconds, strict=True)]
                unit = f"x {peer} (ours {ms['ours']:.0f} ms, theirs {ms[peer]:.0f} ms)"
                yield line(f"pretrain/{name}/{peer}", ratios, unit, None, peer, peers[peer].versions[peer], least=1.2)


def train(images: torch.Tensor, options: dict[str, int], steps: int, run: Run) -> None:
    kind: Any = systems.get("simclr")
    modality = ImageModality(SIZE)
    samples = Samples(modality, InMemory({"image": images}), tuple(map(str, range(len(images)))), torch.full((len(images),), -1))
    own = {**kind.defaults, "train.steps": steps, "train.batch": BATCH, "optim.warmup": 0.0, "device": "cpu", "checkpoint.every": 10**6}
    task = Task(samples, models.build("tiny-vit", modality, ("a", "b"), key=1, **options), RunSettings().changed(own), run)
    objective = kind(kind.Settings(), task)
    Loop(objective, objective.samples(), task.settings, run).to_the_end()
