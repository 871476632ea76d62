"""Files of labels: each stands whole or is not there."""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from understudy.errors import UserError
from understudy.labels.codecs import Fields
from understudy.labels.index import Runs, grouped

STALE = 3600.0
"""Seconds after which an unfinished file has no living writer."""
_TYPES = {"I64": np.int64, "I32": np.int32, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "F32": np.float32, "F16": np.float16}


def write(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that after any interruption the file is there whole or not at all. Raises UserError where the disk refuses."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}.") from error


def mapped(path: Path) -> Fields:
    """The tensors of a safetensors file without reading them."""
    try:
        with open(path, "rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(start - 8))
        content = np.memmap(path, np.uint8, "r", offset=start)
        header.pop("__metadata__", None)
        return {name: content[slice(*entry["data_offsets"])].view(_TYPES[entry["dtype"]]).reshape(entry["shape"]) for name, entry in header.items()}
    except (OSError, OverflowError, MemoryError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the label shard {path} cannot be read ({error}): delete it and label again.") from error


def runs_of(columns: Fields, start: int) -> tuple[Runs, int]:
    """The runs of a shard whose first label is row ``start`` of the store, and how many labels it has. Shards of format 1 know their labels one by one."""
    keys = np.asarray(columns["keys"])
    if "numbers" in columns:
        order, runs = grouped(keys, np.asarray(columns["numbers"]))
        if not (np.diff(order) == 1).all():  # rows of a run must follow each other, and here they stand in the order they were written in
            single = np.ones(len(order), np.int32)
            return Runs(keys[order], np.asarray(columns["numbers"])[order], single, order + start), len(keys)
        return Runs(runs.keys, runs.first, runs.count, order[runs.row] + start), len(keys)
    count = np.broadcast_to(columns["count"], keys.shape)
    ends = np.cumsum(count, dtype=np.int64)
    return Runs(keys, np.broadcast_to(columns["first"], keys.shape), count, ends - count + start), int(ends[-1]) if len(ends) else 0


def one_for_all(column: np.ndarray) -> np.ndarray:
    """One number in place of many that are the same."""
    return column[:1] if len(column) and (column == column[0]).all() else column


def sweep(folder: Path) -> None:
    """Delete files that a writer left unfinished long ago."""
    for path in folder.glob(".*.unfinished"):
        with suppress(FileNotFoundError):  # its writer has just renamed it
            if time.time() - path.stat().st_mtime > STALE:
                remove(path)


def remove(path: Path) -> None:
    """Delete a file. Raises UserError where the disk refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot delete {path}: {error.strerror or error}.") from error
