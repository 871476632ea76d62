"""The index of a store too large to be held: one sorted file beside the shards, made once from them and mapped.

    index-3f09….bin     keys int64 [r], row int64 [r], first int32 [r], count int32 [r], begins int64 [2^k + 1]
    index-3f09….json    how many labels and rows there are; written last

The name has a digest of the shards it was made from; where shards have been added since, it is made anew. Nobody misses it: without it the same index is made in memory.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.labels.codecs import Fields
from understudy.labels.index import Runs, ranges

_PART = 1 << 19
"""Runs that are sorted at a time."""
_COLUMNS = {"keys": "<i8", "row": "<i8", "first": "<i4", "count": "<i4", "begins": "<i8"}
_NEAR = 16
"""Runs in a range, about: two lines of the processor's cache."""


@dataclass(frozen=True)
class _Shard:
    columns: Fields
    start: int
    """Its first row."""
    cuts: np.ndarray
    """Where each part of the keys begins in it."""
    rows: np.ndarray
    """Its rows before each of these."""

    def part(self, number: int) -> Runs:
        """Its runs whose keys are in one part."""
        here = slice(self.cuts[number], self.cuts[number + 1])
        keys = np.asarray(self.columns["keys"][here])
        first, count = (np.broadcast_to(column if len(column) == 1 else column[here], keys.shape) for column in (self.columns["first"], self.columns["count"]))
        return Runs(keys, first, count, self.start + self.rows[number] + np.cumsum(count, dtype=np.int64) - count)


def opened(folder: Path, paths: list[Path]) -> tuple[Runs, list[int]] | None:
    """The mapped index of the shards ``paths`` and the row that each begins with; None where there is none."""
    where = folder / _name(paths)
    try:
        about = json.loads(where.with_suffix(".json").read_text())
        columns, at = {}, 0
        for name, kind in _COLUMNS.items():
            columns[name] = np.memmap(where, kind, "r", at, about["ranges"] + 1 if name == "begins" else about["runs"])
            at += columns[name].nbytes
    except (OSError, ValueError, KeyError):
        return None
    return Runs(**columns, known=(about["labels"], about["span"])), about["starts"]


def make(folder: Path, paths: list[Path], mapped: Callable[[Path], Fields]) -> bool:
    """Write the index of the shards ``paths``, of format 2; False where the folder takes no file. Memory does not grow with the number of labels."""
    total = sum(len(mapped(path)["keys"]) for path in paths)
    parts, many = -(-total // _PART), 1 << max(1, (total // _NEAR).bit_length())
    # Keys are digests, evenly spread: equal ranges hold about as many.
    bounds = np.linspace(-(2.0**63), 2.0**63, parts + 1)[1:-1].astype(np.int64)
    starts, shards = [0], []
    for path in paths:
        columns = mapped(path)
        cuts = np.concatenate([[0], np.searchsorted(columns["keys"], bounds), [len(columns["keys"])]])
        count = np.asarray(columns["count"])
        rows = cuts * int(count[0]) if len(count) == 1 else np.concatenate([[0], np.cumsum(count, dtype=np.int64)])[cuts]
        shards.append(_Shard(columns, starts[-1], cuts, rows))
        starts.append(starts[-1] + int(rows[-1]))
    target, unfinished = folder / _name(paths), folder / f".index.{secrets.token_hex(4)}.unfinished"
    try:
        with open(unfinished, "wb") as file:
            long = {name: many + 1 if name == "begins" else total for name in _COLUMNS}
            file.truncate(sum(np.dtype(kind).itemsize * long[name] for name, kind in _COLUMNS.items()))
        into, at = {}, 0
        for name, kind in _COLUMNS.items():
            into[name] = np.memmap(unfinished, kind, "r+", at, long[name])
            at += into[name].nbytes
        labels = span = done = 0
        for number in range(parts):
            runs = Runs.joined([shard.part(number) for shard in shards])
            for name in ("keys", "row", "first", "count"):
                into[name][done : done + len(runs.keys)] = getattr(runs, name)
            if len(runs.keys):
                lie = ranges(runs.keys, many)
                into["begins"][lie[0] + 1 : lie[-1] + 2] += np.bincount(lie - lie[0])
            labels, span, done = labels + runs.labels(), max(span, runs.span), done + len(runs.keys)
        np.cumsum(into["begins"], out=into["begins"])
        for column in into.values():
            column.flush()
        unfinished.replace(target)
        unfinished.write_text(json.dumps({"runs": total, "ranges": many, "labels": labels, "span": span, "starts": starts}))
        unfinished.replace(target.with_suffix(".json"))
        for old in folder.glob("index-*"):
            if old.stem != target.stem:
                old.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return True


def _name(paths: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return f"index-{digest.hexdigest()}.bin"
