"""Distillation beside what it consists of.

``kd/stored``: a step of the engine with stored labels over a step of plain cross-entropy on the same crops. ``kd/live``: a step with a live teacher over the teacher's pure inference on the
same inputs plus the plain step. One step of each follows the other in one process, on one thread; processor time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import Line, line
from understudy import keyed, maths, models
from understudy.data.modalities.image import ImageModality
from understudy.data.samples import Batch, InMemory, Samples
from understudy.engine.loop import Loop
from understudy.engine.run import Run
from understudy.labels import Packed
from understudy.settings import RunSettings
from understudy.systems.base import Task
from understudy.systems.kd_logit.kd import KD, KDSettings
from understudy.teachers import Frozen, Stored, Teacher, label, store_for

SAMPLES, BATCH, VIEWS, CLASSES = 512, 64, 4, 1000
WARM_UP = 3


class Plain(KD):
    """Cross-entropy with the samples' own labels, on the views that KD would see."""

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        logits = self.student(self.seen(everything).inputs)
        self.watched = {"student": logits.detach().softmax(-1)}
        return {"labels": everything.weighted(maths.soft_cross_entropy(logits, everything.soft_labels()))}


def measure(part: str, quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    repeats = 6 if quick else 24
    samples = drawn()
    live = Frozen(models.build("base-resnet", samples.modality, samples.classes, key=2))
    with tempfile.TemporaryDirectory() as folder:
        if part in ("", "stored"):
            view = {"name": "crop", "seed": 3, "options": {"scale": [0.3, 1.0]}}
            store = store_for(Path(folder) / "labels", live, samples, Packed(5), view=view)
            label(live, samples, store, views=VIEWS)
            both = [made(kind, samples, Path(folder) / kind.__name__, Stored(store.folder)) for kind in (KD, Plain)]
            yield line("kd/stored", ratios(both[0].once, both[1].once, repeats), "x plain step, same crops", 1.03, "our own plain step", torch.__version__)
        if part in ("", "live"):
            ours, plain = (made(kind, samples, Path(folder) / f"live-{kind.__name__}", live) for kind in (KD, Plain))

            def sum_of_parts(step: int) -> None:
                inputs = plain.batches(step, 0)["everything"].view("weak").inputs
                start = time.process_time()
                with torch.no_grad():
                    live.model(inputs)
                teacher.append(time.process_time() - start)
                plain.once(step)

            teacher: list[float] = []
            making: list[float] = []
            found = []
            for step in range(WARM_UP + repeats):
                whole = seconds(ours.once, step)
                apart = seconds(sum_of_parts, step)
                start = time.process_time()
                plain.batches(step, 0)["everything"].view("weak")
                making.append(time.process_time() - start)
                found.append(whole / (apart - making[-1]))  # the view is made once by either side
            yield line("kd/live", found[WARM_UP:], "x teacher + plain step", 1.05, "pure inference + our own plain step", torch.__version__)


def drawn() -> Samples:
    """Images of 1,000 classes."""
    pixels = keyed.integers(keyed.fold(1, torch.arange(SAMPLES)), 256, (3, 32, 32)).to(torch.uint8)
    names = tuple(map(str, range(CLASSES)))
    return Samples(ImageModality(size=32), InMemory({"image": pixels}), tuple(map(str, range(SAMPLES))), torch.arange(SAMPLES) % CLASSES, names)


def made(kind: type[KD], samples: Samples, folder: Path, teacher: Teacher) -> Loop:
    """A loop that has not begun."""
    settings = RunSettings().changed({"train.steps": 1000, "train.batch": BATCH, "device": "cpu", "checkpoint.every": 10**6})
    student = models.build("small-resnet", samples.modality, samples.classes, key=1)
    objective: Any = kind(KDSettings(), Task(samples, student, settings, Run(folder), teacher=teacher))
    loop = Loop(objective, objective.samples(), settings, objective.task.run)
    objective.steps = loop.steps = 1000
    objective.train()
    return loop


def ratios(ours: Callable[[int], Any], theirs: Callable[[int], Any], repeats: int) -> list[float]:
    found = [seconds(ours, step) / seconds(theirs, step) for step in range(WARM_UP + repeats)]
    return found[WARM_UP:]


def seconds(what: Callable[[int], Any], step: int) -> float:
    start = time.process_time()
    what(step)
    return time.process_time() - start
