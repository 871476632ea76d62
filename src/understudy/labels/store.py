"""Labels on disk: a manifest that says whose they are and of what, and append-only shards.

    labels/
      manifest.json                    teacher, data, view, codec, classes, temperature; written once
      shard-000000-1f0c.safetensors    keys int64 [r], first and count int32 [r] or [1], and the codec's fields [n, ...]

A label belongs to a sample (its key) and to one numbered view of it, or to the token at one numbered place of its text. Labels of one sample with consecutive numbers are
a run: a shard keeps its key once, with the first number and how many there are (only one number where that is the same for all runs). Shards are written beside, fsynced and renamed, so that a shard either stands whole or is
not there: stopping the writer at any instant loses what it had buffered, at most one shard. Several processes may write to one store. Where a label was written
twice, the later shard wins. How many labels there are is counted from the shards and kept nowhere else. Reading maps the files; the index takes 24 bytes
of memory per run, and past four million runs nothing: it is then a mapped file (``labels.mapped``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from understudy import keyed
from understudy.data.samples import Batch, View
from understudy.errors import UserError
from understudy.labels import manifest as manifests
from understudy.labels import mapped, ragged, shards
from understudy.labels.codecs import Codec, Fields, Tail, Values
from understudy.labels.index import Runs, grouped
from understudy.labels.kinds import codec
from understudy.labels.manifest import Manifest

_HELD = 1 << 22
"""Runs up to which the index is made in memory whenever a store is opened, in 100 MB and a second; more are kept in a file and mapped."""
_SHARD_BYTES = 1 << 24
"""What a shard holds unless its rows are given, about: small enough to lose, large enough that a billion labels are a thousand files."""


class LabelStore:
    """A directory of labels. Make one with ``create``, read one with ``open``."""

    def __init__(self, folder: Path, manifest: Manifest, *, shard_rows: int | None = None, shard_seconds: float = 60.0):
        self.folder = folder
        self.manifest = manifest
        self.codec: Codec = codec(**manifest.codec)
        self.shard_rows = shard_rows or max(1, _SHARD_BYTES // (self.codec.size(len(manifest.classes)) + 8))
        self.shard_seconds = shard_seconds
        self._writer = secrets.token_hex(4)
        self._buffer: list[Fields] = []
        self._buffered = 0
        self._since = 0.0
        self._index: Runs | None = None
        self._shards: list[Path] = []
        self._starts = np.zeros(1, np.int64)
        self._mapped = lru_cache(maxsize=256)(shards.mapped)

    @classmethod
    def create(
        cls, folder: str | Path, *, teacher: str, data: str, view: Mapping[str, Any], codec: Codec, classes: tuple[str, ...] = (),
        temperature: float = 1.0, data_size: int | None = None, replace: bool = False, tokenizer: str | None = None,
        shard_rows: int | None = None, shard_seconds: float = 60.0,
    ) -> LabelStore:  # fmt: skip
        """A new store, or the one in ``folder`` to go on with where it is of the same labels.

        ``view`` is ``{"name", "seed", "options"}`` as ``Batch.replayed`` takes them, seed 0 and no options unless given. ``replace`` throws away what stands in
        ``folder``. ``tokenizer``: digest of the one whose tokens are labelled. A shard is written after ``shard_rows`` labels (about 16 MiB unless given) or
        ``shard_seconds`` seconds, whichever is first. Raises UserError where ``folder``
        holds other labels or cannot be written, or the codec cannot hold these classes.
        """
        folder = Path(folder)
        codec.layout(len(classes))
        view = manifests.plain(view)
        if not isinstance(view.get("name"), str) or not isinstance(view["seed"], int) or set(view) != {"name", "seed", "options"}:
            raise UserError(f"the view of a label store needs a name, and perhaps an integer seed and options, got {view}.")
        if replace:
            for path in [*folder.glob("shard-*.safetensors"), *folder.glob("index-*"), folder / "manifest.json"]:
                shards.remove(path)
        manifest = Manifest(
            teacher=teacher, data=data, view=view, codec=codec.describe(), classes=classes, temperature=temperature, data_size=data_size,
            created=datetime.now(UTC).isoformat(timespec="seconds"), version=manifests.package_version(), tokenizer=tokenizer,
        )  # fmt: skip
        if (folder / "manifest.json").exists():
            manifest = manifests.same(folder, manifests.read(folder), manifest)
            shards.sweep(folder)
        elif any(folder.glob("shard-*.safetensors")):
            raise UserError(f"{folder} holds label shards without a manifest, so that nobody knows whose they are: choose another folder.")
        else:
            shards.write(folder / "manifest.json", manifest.model_dump_json(indent=1).encode())
        return cls(folder, manifest, shard_rows=shard_rows, shard_seconds=shard_seconds)

    @classmethod
    def open(cls, folder: str | Path) -> LabelStore:
        """The store in ``folder``. Raises UserError where there is none or its manifest cannot be read."""
        return cls(Path(folder), manifests.read(Path(folder)))

    def require(self, teacher: str | None = None, data: str | None = None, view: Mapping[str, Any] | None = None, tokenizer: str | None = None) -> None:
        """Raise UserError where the labels are of another teacher, of other data, of another view or of another tokenizer's tokens than these."""
        wanted = {"teacher": teacher, "data": data, "view": None if view is None else manifests.plain(view), "tokenizer": tokenizer}
        for what, want in wanted.items():
            have = getattr(self.manifest, what)
            if want is not None and have != want:
                raise UserError(f"the labels at {self.folder} are of the {what} {have}, and this run has the {what} {want}: label again into another folder.")

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.flush()

    def append(self, keys: Tensor, numbers: Tensor, values: Mapping[str, Tensor]) -> None:
        """Add labels of the samples ``keys`` int64 ``[n]`` and their views ``numbers`` int ``[n]``; ``values`` as the codec packs them.

        Readers see them once they are flushed.
        """
        fields = {"keys": _flat(keys, np.int64), "numbers": _flat(numbers, np.int32), **self.codec.pack(values, len(self.manifest.classes))}
        lengths = {name: len(column) for name, column in fields.items() if name != "content" or not self.codec.ragged}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"keys, numbers and values differ in length: {lengths}")
        if (fields["numbers"] < 0).any():
            raise ValueError("views are numbered from 0")
        if not self._buffered:
            self._since = time.monotonic()
        self._buffer.append(fields)
        self._buffered += len(fields["keys"])
        if self._buffered >= self.shard_rows or time.monotonic() - self._since >= self.shard_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one shard. Raises UserError where the disk refuses; the labels then stay buffered."""
        if not self._buffered:
            return
        fields = {name: np.concatenate([part[name] for part in self._buffer]) for name in self._buffer[0]}
        order, runs = grouped(fields.pop("keys"), fields.pop("numbers"))
        if self.codec.ragged:
            content, lengths = ragged.taken(fields["content"], fields["lengths"], order)
            fields = {"content": np.append(content, np.zeros(ragged.SPARE, np.uint8)), "lengths": lengths, "starts": ragged.starts_of(lengths)}
        else:
            fields = {name: column[order] for name, column in fields.items()}
        index = {"keys": runs.keys, "first": shards.one_for_all(runs.first), "count": shards.one_for_all(runs.count)}
        standing = self._list()
        number = int(standing[-1].name.split("-")[1]) + 1 if standing else 0
        about = {"created": datetime.now(UTC).isoformat(timespec="seconds"), "teacher": self.manifest.teacher, "data": self.manifest.data}
        shards.write(self.folder / f"shard-{number:06d}-{self._writer}.safetensors", safetensors.numpy.save({**index, **fields}, about))
        self._buffer, self._buffered, self._index = [], 0, None

    def __len__(self) -> int:
        """Number of different labels on disk."""
        return self._indexed().labels()

    @property
    def views(self) -> int:
        """One more than the highest view number on disk."""
        return self._indexed().span

    def records(self) -> tuple[Tensor, Tensor]:
        """Keys int64 ``[n]`` and numbers int64 ``[n]`` of all labels on disk, sorted."""
        keys, numbers = self._indexed().pairs()
        return torch.from_numpy(keys), torch.from_numpy(numbers)

    def have(self, keys: Tensor, numbers: Tensor | int) -> Tensor:
        """bool ``[B]``: which of these labels are on disk."""
        _, found = self._find(keys, numbers)
        return torch.from_numpy(found).to(keys.device)

    def read(self, keys: Tensor, numbers: Tensor | int) -> Values:
        """The labels of ``keys`` int64 ``[B]`` and views ``numbers`` int ``[B]`` or one for all, as the codec unpacks them, on the device of ``keys``.

        Raises LookupError, with their number, where labels are missing.
        """
        rows, found = self._find(keys, numbers)
        if not found.all():
            missing = int((~found).sum())
            raise LookupError(f"{missing} of {len(found)} labels asked for are not in {self.folder} ({len(self)} labels, at most {self.views} views each)")
        return {name: value.to(keys.device) for name, value in self._unpacked(rows).items()}

    def decode(self, values: Values, tail: Tail = "uniform") -> Tensor:
        """Class probabilities float32 ``[B, C]``, at the manifest's temperature, of what ``read`` returned; ``tail``: where unassigned mass goes."""
        return self.codec.decode(values, len(self.manifest.classes), tail)

    def replay(self, batch: Batch, number: int | Tensor) -> View:
        """The view that the labels of this number are of."""
        view = self.manifest.view
        return batch.replayed(view["name"], view["seed"], number, **view["options"])

    def numbers(self, view: View, keys: Tensor) -> Tensor:
        """Which of the labelled views of the samples ``keys`` int64 ``[B]`` this is: int64 ``[B]``. Raises UserError where it is none of them.

        The key of a view is a function of seed, name, sample and number, so that no other view is mistaken for a labelled one. The plain view has no
        randomness: any plain view is number 0.
        """
        name, seed = self.manifest.view["name"], self.manifest.view["seed"]
        if view.name == name == "plain":
            return torch.zeros_like(keys)
        candidates = keyed.fold(keyed.fold(seed, "stored view", name), keys.unsqueeze(1), torch.arange(self.views, device=keys.device))
        same = torch.as_tensor(candidates == view.keys.unsqueeze(1))
        if view.name != name or not bool(same.any(1).all()):
            raise UserError(f"the labels at {self.folder} are of views '{name}' of seed {seed}, and this view '{view.name}' is none of them: use their replay.")
        return same.to(torch.int8).argmax(1)

    def _find(self, keys: Tensor, numbers: Tensor | int) -> tuple[np.ndarray, np.ndarray]:
        wanted = np.full(len(keys), numbers, np.int64) if isinstance(numbers, int) else _flat(numbers, np.int64)
        return self._indexed().find(_flat(keys, np.int64), wanted)

    def _unpacked(self, rows: np.ndarray) -> Values:
        """The labels in these rows, unpacked shard by shard."""
        home = np.searchsorted(self._starts, rows, side="right") - 1
        parts, at = [], []
        for shard in np.unique(home):
            here = (home == shard).nonzero()[0]
            columns, inside = self._mapped(self._shards[shard]), rows[here] - self._starts[shard]
            at.append(here)
            if self.codec.ragged:
                fields = {"content": columns["content"], "begin": ragged.places(columns["lengths"], columns["starts"], inside)}
            else:
                fields = {name: columns[name][inside] for name in self.codec.layout(len(self.manifest.classes))}
            parts.append(self.codec.unpack(fields))
        if not parts:
            layout = self.codec.layout(len(self.manifest.classes))
            return self.codec.unpack({name: np.empty((0, *shape), kind) for name, (kind, shape) in layout.items()})
        if len(parts) == 1:
            return parts[0]
        back = torch.from_numpy(np.concatenate(at)).argsort(stable=True)
        return {name: torch.cat([part[name] for part in parts])[back] for name in parts[0]}

    def _indexed(self) -> Runs:
        if self._index is None:
            self._shards = self._list()
            columns = (self._mapped(shard) for shard in self._shards)
            if sum(len(c["keys"]) if "count" in c else -_HELD for c in columns) > _HELD:  # format 1 has no sorted keys to make a file of
                found = mapped.opened(self.folder, self._shards)
                if found is None and mapped.make(self.folder, self._shards, self._mapped):
                    found = mapped.opened(self.folder, self._shards)
                if found is not None:
                    self._index, self._starts = found[0], np.array(found[1])
                    return self._index
            starts, parts = [0], [Runs.none()]
            for shard in self._shards:
                runs, count = shards.runs_of(self._mapped(shard), starts[-1])
                parts.append(runs)
                starts.append(starts[-1] + count)
            self._index, self._starts = Runs.joined(parts), np.array(starts)
        return self._index

    def _list(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.safetensors"))


def _flat(x: Tensor, kind: type[np.signedinteger[Any]]) -> np.ndarray:
    return x.detach().cpu().numpy().astype(kind)
