"""From a teacher and samples to a label store, and back to check it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.data.samples import Batch, Samples
from understudy.errors import UserError
from understudy.labels import Codec, Features, Hard, LabelStore, Values
from understudy.teachers.base import Signals, Teacher

_WAITING = 4
"""Batches of labels that wait to be written, at most."""


def store_for(
    folder: str | Path, teacher: Teacher, samples: Samples, codec: Codec, *, view: dict[str, Any] | None = None, temperature: float = 1.0
) -> LabelStore:
    """A label store for what ``teacher`` says of ``view`` (the plain one unless given) of ``samples``; an unfinished one of the same is gone on with."""
    return LabelStore.create(
        folder, teacher=teacher.fingerprint, data=samples.fingerprint, view=view or {"name": "plain"}, codec=codec,
        classes=teacher.classes or samples.classes, temperature=temperature, data_size=len(samples),
    )  # fmt: skip


def label(
    teacher: Teacher, samples: Samples, store: LabelStore, *, views: int = 1, batch: int = 64, device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None, resume: bool = True,
) -> int:  # fmt: skip
    """Let ``teacher`` label views 0 to ``views`` - 1 of all samples that have no label yet; returns how many labels were added.

    Each sample is decoded once for all its views, while the teacher is at the batch before; labels are packed and written meanwhile too. Texts go by length, since
    padding takes as long as words. ``progress`` is told how many labels each batch came to, those that were there already included. Several
    processes may each take a part of the samples. Without ``resume`` nobody looks for labels that are there, and the samples given are all labelled. Raises
    UserError where the store is of another teacher.
    """
    store.require(teacher=teacher.fingerprint)
    before, added = LabelStore.open(store.folder) if resume else None, 0

    def opened(index: Tensor) -> tuple[Tensor, Batch | None]:
        todo = torch.ones(views, len(index), dtype=torch.bool)
        if before is not None:
            todo = torch.stack([~before.have(samples.keys[index], number) for number in range(views)])
        return todo, samples.batch(index, device=device) if todo.any() else None

    def kept(index: Tensor, number: int, new: Tensor, values: Values) -> None:
        store.append(samples.keys[index][new], torch.full((int(new.sum()),), number), {name: value.cpu()[new] for name, value in values.items()})

    with store, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        batches = by_length(samples).split(batch)
        writing: list[Future[None]] = []
        following = [reader.submit(opened, index) for index in batches[:1]]
        for position, index in enumerate(batches):
            todo, part = following.pop().result()
            following = [reader.submit(opened, later) for later in batches[position + 1 : position + 2]]
            if part is not None:
                for number in todo.any(1).nonzero().flatten().tolist():
                    values = values_of(teacher(part, store.replay(part, number)), store)
                    writing.append(writer.submit(kept, index, number, todo[number], values))
                    added += int(todo[number].sum())
            while writing and (len(writing) > _WAITING or writing[0].done()):
                writing.pop(0).result()
            if progress is not None:
                progress(todo.numel())
        for left in writing:
            left.result()
    return added


def by_length(samples: Samples) -> Tensor:
    """Positions, int64, of all samples in the order in which they take the least padding: the longest first. Samples that have no length stay as they are."""
    lengths: Tensor | None = getattr(samples.encoded, "lengths", None)
    return torch.arange(len(samples)) if lengths is None else lengths[samples.positions].argsort(descending=True, stable=True)


def missing(samples: Samples, store: LabelStore, views: int) -> Tensor:
    """Positions, int64, of the samples that lack the label of one of the first ``views`` views."""
    before = LabelStore.open(store.folder)
    return torch.stack([~before.have(samples.keys, number) for number in range(views)]).any(0).nonzero().flatten()


def relabel(
    teacher: Teacher, samples: Samples, store: LabelStore, *, batch: int = 64, device: torch.device | str = "cpu"
) -> Callable[[Tensor, Tensor], Values]:
    """What ``labels.verify`` needs to ask ``teacher`` again. It raises UserError where labelled samples are not among ``samples``."""

    def ask(keys: Tensor, numbers: Tensor) -> Values:
        order = torch.argsort(samples.keys)
        at = order[torch.searchsorted(samples.keys[order], keys).clamp_max(len(order) - 1)]
        missing = int((samples.keys[at] != keys).sum())
        if missing:
            raise UserError(f"{missing} of {len(keys)} labels in {store.folder} are of samples that are not in the data given.")
        parts = []
        for rows in torch.arange(len(keys)).split(batch):
            part = samples.batch(at[rows], device=device)
            parts.append(values_of(teacher(part, store.replay(part, numbers[rows].to(device))), store))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return ask


def values_of(signals: Signals, store: LabelStore) -> Values:
    """What the store's codec keeps of a teacher's signals. Raises UserError where the teacher does not give it."""
    if isinstance(store.codec, Features):
        if signals.pooled is None:
            raise UserError("the store keeps features, and this teacher gives none: choose the codec hard, soft or topk.")
        return {"pooled": signals.pooled}
    if isinstance(store.codec, Hard):
        label, confidence = signals.hard()
        return {"label": label, "confidence": confidence}
    return {"probabilities": signals.soft(store.manifest.temperature)}
