"""``doctor --distill``: when does it pay to store a teacher's answers?"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

from understudy.data.samples import Samples
from understudy.errors import UserError
from understudy.labels import LabelStore, Packed, Soft
from understudy.models.student import Student
from understudy.report.page import duration, size
from understudy.teachers import Stored, Teacher, store_for
from understudy.teachers.labelling import values_of

_STEPS, _BATCH = 8, 32


def when_storing_pays(student: Student, teacher: Teacher, samples: Samples, device: torch.device, views: int = 4) -> dict[str, Any]:
    """Times of a few steps, per sample, and what follows for a whole run. Raises UserError where the teacher's answers are stored already, or student or teacher has no classes.

    Over E epochs a live teacher costs E (T + S) a sample and V stored views cost V T + E (S + D): teacher T, step of the student S, looking a label up D.
    """
    if isinstance(teacher, Stored):
        raise UserError("these labels are stored already: give the teacher that made them")
    if student.head is None or not teacher.offers & {"logits", "probabilities", "labels"}:
        raise UserError("storing pays where a student learns classes from answers, and this student or teacher has none: finetune it first")
    name = "crop" if "crop" in samples.modality.views else "weak" if "weak" in samples.modality.views else "plain"
    views = views if name != "plain" else 1
    part = samples.take(torch.arange(min(len(samples), _BATCH * _STEPS)))
    student = student.to(device).train()
    optimizer = torch.optim.AdamW(student.parameters())
    batches = list(torch.arange(len(part)).split(_BATCH))

    def step(index: torch.Tensor) -> None:
        batch = part.batch(index, device=device)
        target = torch.full((len(index), len(student.classes)), 1 / len(student.classes), device=device)
        optimizer.zero_grad()
        F.cross_entropy(student(batch.view(name).inputs), target).backward()
        optimizer.step()

    def ask(index: torch.Tensor) -> torch.Tensor:
        batch = part.batch(index, device=device)
        return teacher(batch, batch.view(name)).soft()

    def view(index: torch.Tensor) -> None:
        part.batch(index, device=device).view(name)

    codec = Packed(min(5, len(student.classes) - 1)) if Packed.holds(min(5, len(student.classes) - 1), len(student.classes)) else Soft()
    with tempfile.TemporaryDirectory() as folder:
        store = store_for(Path(folder), teacher, part, codec, view={"name": name})
        with store:
            for index in batches:
                whole = part.batch(index, device=device)
                store.append(part.keys[index], torch.zeros(len(index), dtype=torch.int64), values_of(teacher(whole, store.replay(whole, 0)), store))
        store = LabelStore.open(store.folder)
        store.views  # noqa: B018  the index is made once

        def look_up(index: torch.Tensor) -> None:
            store.decode(store.read(part.keys[index], 0))

        making = _seconds(view, batches, device)
        times = {"student": _seconds(step, batches, device), "teacher": _seconds(ask, batches, device) - making, "label": _seconds(look_up, batches, device)}
    times["teacher"] = max(times["teacher"], 1e-9)
    pays = views * times["teacher"] / (times["teacher"] - times["label"]) if times["teacher"] > times["label"] else math.inf
    bytes_needed = len(samples) * (views * store.codec.size(len(student.classes)) + 8)
    return {
        "seconds_a_sample": times,
        "view": name,
        "views": views,
        "from_epochs": None if math.isinf(pays) else math.floor(pays) + 1,
        "epoch_live": len(samples) * (times["teacher"] + times["student"]),
        "epoch_stored": len(samples) * (times["label"] + times["student"]),
        "labelling": len(samples) * views * times["teacher"],
        "bytes": bytes_needed,
    }


def sentences(found: dict[str, Any]) -> list[str]:
    """What was found out, in words."""
    times, views = found["seconds_a_sample"], found["views"]
    said = [
        f"A step costs {1e3 * times['student']:.3g} ms a sample with the student alone, the teacher's answer {1e3 * times['teacher']:.3g} ms and a stored label {1e3 * times['label']:.3g} ms.",
        f"An epoch takes {duration(found['epoch_live'])} with the teacher live and {duration(found['epoch_stored'])} with stored labels.",
    ]
    if found["from_epochs"] is None:
        return [*said, "Storing does not pay: looking a label up takes as long as asking the teacher."]
    shown = "one view" if views == 1 else f"{views} views"
    said.append(
        f"Storing {shown} of every sample takes {duration(found['labelling'])} and {size(found['bytes'])} once: it pays from {found['from_epochs']} epochs on."
    )
    return said


def _seconds(what: Callable[[torch.Tensor], Any], batches: list[torch.Tensor], device: torch.device) -> float:
    """Median time a sample, the first batch left out where there are others."""
    times = []
    for index in batches:
        start = time.perf_counter()
        what(index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - start) / len(index))
    return median(times[1:] or times)
