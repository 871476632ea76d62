"""Samples with stable ids, the batches drawn from them, and views of a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from understudy import keyed

Inputs = dict[str, Tensor]
"""What a model takes: named tensors with the batch in front, such as ``{"pixels": [B, C, H, W]}``."""


@dataclass(frozen=True)
class View:
    """A batch as somebody sees it."""

    name: str
    inputs: Inputs
    keys: Tensor
    """int64 ``[B]``: the key of every view; the same key and name give the same view again."""
    masked: Tensor | None = None
    """bool ``[B, T]``, true where a position is hidden from the student."""
    most: int | None = None
    """The most positions that any sample can have hidden, where that is known without asking the device."""
    place: Tensor | None = None
    """float32 ``[B, 2, 3]``: where the pixels of the view lie on the canvas, (x, y) = place (X, Y, 1) with both squares spanning [-1, 1]. None: no such places."""
    truth: Tensor | None = None
    """What is labelled, moved with the view, where a label is more than a class; its form is the modality's. None: the label is the sample's."""

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, selection: Tensor) -> View:
        """The view of some samples only (bool or int64 index)."""
        masked, place, truth = (None if x is None else x[selection] for x in (self.masked, self.place, self.truth))
        return View(self.name, {k: v[selection] for k, v in self.inputs.items()}, self.keys[selection], masked, self.most, place, truth)


class Modality(Protocol):
    """How one kind of data is encoded once, and viewed again and again."""

    name: str
    noun: str
    """What people call many of its samples: images, texts, rows."""
    views: tuple[str, ...]
    """Names that ``view`` understands: at least plain; weak, strong and masked as well where a sample can be altered and stay what it is."""

    def signature(self) -> dict[str, Any]:
        """Everything that decides what ``encode`` returns, as JSON: part of fingerprints and of a saved model."""
        ...

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None) -> Modality:
        """The modality of this ``signature``; what does not fit in JSON lies in ``folder``. Raises UserError where that is missing or another one."""
        ...

    def shape(self) -> dict[str, Any]:
        """What a built-in model must know about the data, as its arguments."""
        ...

    def examples(self, count: int) -> Inputs:
        """A raw batch of ``count`` made-up samples, of the types and shapes that ``collate`` gives: for exports and trials."""
        ...

    def encode(self, original: Any) -> Inputs:
        """One decoded sample (a PIL image, a string, a row) as unbatched tensors."""
        ...

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        """Stack encoded samples to a raw batch."""
        ...

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """A batched view of a raw batch, on the device of ``raw``; a pure function of its arguments."""
        ...


class Encoded(Protocol):
    """Where encoded samples come from: memory, or files decoded on demand. What holds sequences also says their ``lengths``, int64 ``[N]``."""

    def __len__(self) -> int: ...

    def raw(self, indices: Tensor) -> Inputs:
        """The raw batch of these positions, int64 ``[B]``."""
        ...

    def original(self, index: int) -> Any:
        """The sample before encoding, for teachers that read it in their own way."""
        ...


class InMemory:
    """Encoded samples kept as one raw batch."""

    def __init__(self, everything: Inputs, originals: Sequence[Any] | None = None):
        self.everything = everything
        self.originals = originals

    def __len__(self) -> int:
        return len(next(iter(self.everything.values())))

    @property
    def lengths(self) -> Tensor | None:
        """Of sequences, int64 ``[N]``; None of anything else."""
        return self.everything.get("length")

    def raw(self, indices: Tensor) -> Inputs:
        """The raw batch of these positions; of texts only as many places as its longest needs, since padding costs time and changes nothing."""
        shown = self.everything
        if "length" in shown and len(indices):
            shown = {**shown, "tokens": shown["tokens"][:, : max(1, int(shown["length"][indices].max()))]}
        return {name: tensor[indices] for name, tensor in shown.items()}

    def original(self, index: int) -> Any:
        if self.originals is None:
            raise LookupError("these samples were built from tensors and have no original form")
        return self.originals[index]


@dataclass(frozen=True)
class Samples:
    """Samples known by id before any of them is looked at. Subsets share the encoded data."""

    modality: Modality
    encoded: Encoded
    ids: tuple[str, ...]
    labels: Tensor
    """int64 ``[N]``, -1 where there is no label."""
    classes: tuple[str, ...] = ()
    positions: Tensor = None  # type: ignore[assignment]
    """int64 ``[N]``: where each sample sits in ``encoded``."""
    keys: Tensor = None  # type: ignore[assignment]
    """int64 ``[N]``: the keys of the ids."""
    weights: Tensor | None = None
    """float32 ``[N]``: how much a sample counts; None means 1 each."""
    targets: Tensor | None = None
    """float32 ``[N, C]``: soft labels, where somebody gave them."""

    def __post_init__(self) -> None:
        if self.positions is None:
            object.__setattr__(self, "positions", torch.arange(len(self.ids)))
        if self.keys is None:
            object.__setattr__(self, "keys", keyed.of_texts(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Who these samples are: a digest of ids and of the encoding, not of labels."""
        digest = hashlib.blake2b(digest_size=12)
        digest.update(repr(sorted(self.modality.signature().items())).encode())
        for name in self.ids:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()

    def take(self, selection: Tensor) -> Samples:
        """Some of the samples, by int64 index or bool mask, in that order."""
        index = selection.nonzero().squeeze(-1) if selection.dtype == torch.bool else selection
        return Samples(
            self.modality, self.encoded, tuple(self.ids[i] for i in index.tolist()), self.labels[index], self.classes, self.positions[index], self.keys[index],
            None if self.weights is None else self.weights[index], None if self.targets is None else self.targets[index],
        )  # fmt: skip

    def relabelled(self, labels: Tensor, weights: Tensor | None = None, targets: Tensor | None = None) -> Samples:
        """The same samples with other labels, weights and soft targets."""
        return Samples(self.modality, self.encoded, self.ids, labels, self.classes, self.positions, self.keys, weights, targets)

    def joined(self, other: Samples) -> Samples:
        """These samples and then others over the same encoded data."""
        if other.encoded is not self.encoded:
            raise ValueError("only samples of one source can be joined")

        def both(a: Tensor | None, b: Tensor | None, default: Any) -> Tensor | None:
            if a is None and b is None:
                return None
            return torch.cat([default(self) if a is None else a, default(other) if b is None else b])

        return Samples(
            self.modality, self.encoded, self.ids + other.ids, torch.cat([self.labels, other.labels]), self.classes,
            torch.cat([self.positions, other.positions]), torch.cat([self.keys, other.keys]),
            both(self.weights, other.weights, lambda s: torch.ones(len(s))),
            both(self.targets, other.targets, lambda s: torch.nn.functional.one_hot(s.labels.clamp_min(0), len(s.classes)).float()),
        )  # fmt: skip

    @property
    def labelled(self) -> Samples:
        return self.take(self.labels >= 0)

    @property
    def unlabelled(self) -> Samples:
        return self.take(self.labels < 0)

    def batch(self, index: Tensor, key: int = 0, step: int = 0, device: torch.device | str = "cpu") -> Batch:
        """The samples at ``index`` (int64 ``[B]``) as a batch whose views are keyed by ``key`` and ``step``."""
        raw = {name: tensor.to(device, non_blocking=True) for name, tensor in self.encoded.raw(self.positions[index]).items()}

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[index].to(device, non_blocking=True)

        return Batch(self, index, raw, move(self.keys), move(self.labels), move(self.weights), move(self.targets), key, step)  # type: ignore[arg-type]

    def batches(self, size: int, device: torch.device | str = "cpu") -> Any:
        """All samples once, in order, in batches of at most ``size``."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self))), device=device)


@dataclass
class Batch:
    """Some samples at one step of a run."""

    samples: Samples
    index: Tensor
    """int64 ``[B]``, on the CPU: positions in ``samples``."""
    raw: Inputs
    keys: Tensor
    labels: Tensor
    weights: Tensor | None
    targets: Tensor | None
    key: int
    step: int
    _views: dict[Any, View] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def device(self) -> torch.device:
        return self.keys.device

    def view(self, name: str = "plain", number: int = 0, **options: Any) -> View:
        """The view ``name`` of this batch; ``number`` tells several views of one kind apart. Computed once, then remembered."""
        where = (name, number, tuple(sorted(options.items())))
        if where not in self._views:
            keys = keyed.fold(keyed.fold(self.key, "view", name, self.step, number), self.keys)
            self._views[where] = self.samples.modality.view(self.raw, name, keys, **options)  # type: ignore[arg-type]
        return self._views[where]

    def replayed(self, name: str, seed: int, number: Tensor | int, **options: Any) -> View:
        """A view that does not depend on the step: number ``number`` (int or int64 ``[B]``) of each sample under ``seed``. What a label store keeps labels of."""
        return self.samples.modality.view(self.raw, name, keyed.fold(keyed.fold(seed, "stored view", name), self.keys, number), **options)  # type: ignore[arg-type]

    def soft_labels(self) -> Tensor:
        """The targets, float32 ``[B, C]``: soft ones where the samples carry them, otherwise one-hot labels, and zeros where there is no label."""
        if self.targets is not None:
            return self.targets
        one_hot = torch.nn.functional.one_hot(self.labels.clamp_min(0), len(self.samples.classes)).float()
        return one_hot * (self.labels >= 0).unsqueeze(-1)

    def weighted(self, losses: Tensor) -> Tensor:
        """``losses`` ``[B]`` times the samples' weights."""
        return losses if self.weights is None else losses * self.weights

    def originals(self) -> list[Any]:
        """The samples before encoding."""
        return [self.samples.encoded.original(int(p)) for p in self.samples.positions[self.index]]

    def random(self, purpose: str) -> Tensor:
        """One key for every sample at this step, int64 ``[B]``: for randomness that is not a view."""
        return keyed.fold(keyed.fold(self.key, purpose, self.step), self.keys)  # type: ignore[return-value]
