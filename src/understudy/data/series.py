"""Series in columns of rows: a list of numbers for each channel, a list of lists, or a column for every step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from understudy.data.folder import shown
from understudy.data.modalities.series import SeriesModality
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, InMemory, Modality
from understudy.errors import UserError

LONGEST = 512
"""Steps: with more, the built-in student needs longer than minutes on two CPU cores."""
_STEP = re.compile(r"(.*?)[_.-]?(\d+)")


class Broken(Exception):
    """A row that is no series; the message says why."""


def is_series(kind: pa.DataType) -> bool:
    """Whether a column holds lists of numbers."""
    return _is_list(kind) and _is_number(kind.value_type)


def is_nested(kind: pa.DataType) -> bool:
    """Whether a column holds lists of lists of numbers."""
    return _is_list(kind) and is_series(kind.value_type)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


class Series:
    """Series, one a row.

    Columns of lists are the channels, in their order. One column of lists of lists holds all channels of a series, or all steps of it where the inner lists are equally
    long in all rows and the outer ones are not. Without lists, columns of numbers are the steps of one channel, in their order; where the names are a word and a number
    (``x_0, x_1, y_0, y_1``), each word is a channel.
    """

    kind = "series"

    def __init__(self, table: pa.Table, where: Sequence[str], path: Path):
        self.where, self.path = where, path
        self.rows: list[list[Any]]
        lists = [name for name in table.column_names if is_series(table.schema.field(name).type)]
        nested = [name for name in table.column_names if is_nested(table.schema.field(name).type)]
        if lists:
            self.channels = lists
            self.rows = [list(row) for row in zip(*(table.column(name).to_pylist() for name in lists), strict=True)]
        elif nested:
            self.rows, self.channels = _unnested(table.column(nested[0]).to_pylist(), nested[0])
        else:
            wide = _wide([name for name in table.column_names if _is_number(table.schema.field(name).type)])
            if not wide:
                has = ", ".join(map(repr, table.column_names[:12])) or "none besides labels and ids"
                raise UserError(f"{shown(path)} has no column of lists of numbers, nor one of numbers for every step; its columns are {has}")
            self.channels = list(wide)
            columns = [[table.column(name).to_pylist() for name in names] for names in wide.values()]
            self.rows = [[[steps[row] for steps in channel] for channel in columns] for row in range(table.num_rows)]
        self.steps: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def look(self) -> None:
        lengths = [max((len(channel) for channel in row if channel is not None), default=0) for row in self.rows]
        self.steps = {"least": min(lengths), "median": round(median(lengths)), "greatest": max(lengths)}

    def fit(self, size: int | None, seed: int) -> Modality:
        """As long as the longest, at most ``size`` (``LONGEST``) steps; standardised by the mean and deviation of each channel."""
        series = [one for one in map(self._try, range(len(self))) if one is not None]
        return SeriesModality.fit(self.channels, series, max(2, min(size or LONGEST, self.steps["greatest"])))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        assert isinstance(modality, SeriesModality)
        if tuple(self.channels) != modality.channels:
            theirs, own = (", ".join(names[:6]) for names in (self.channels, modality.channels))
            raise UserError(f"{shown(self.path)} has the channels {theirs}, and the training data has {own}: give series of the same channels")
        kept, series = [], []
        for i in range(len(self)):
            try:
                series.append(self._read(i))
                kept.append(i)
            except Broken as problem:
                quarantine.add(self.where[i], str(problem))
        digests = [hashlib.blake2b(one.tobytes(), digest_size=16).digest() for one in series]
        return InMemory(modality.collate([modality.encode(one) for one in series]) if series else {}, series), kept, digests

    def _try(self, row: int) -> np.ndarray | None:
        try:
            return self._read(row)
        except Broken:
            return None

    def _read(self, row: int) -> np.ndarray:
        """One series, float64 ``[C, n]``, NaN where a value is missing. Raises Broken."""
        channels = self.rows[row]
        if any(channel is None for channel in channels):
            raise Broken("the row holds no series" if len(channels) == 1 else f"channel {self.channels[channels.index(None)]!r} is empty")
        lengths = {len(channel) for channel in channels}
        if len(channels) != len(self.channels) or len(lengths) > 1:
            counted = (
                f"{len(channels)} channels where {len(self.channels)} were expected" if len(channels) != len(self.channels) else "channels of different lengths"
            )
            raise Broken(f"the series has {counted}")
        if lengths.pop() < 2:
            raise Broken("the series has fewer than two steps")
        values = np.array([[np.nan if v is None else v for v in channel] for channel in channels], dtype=np.float64)
        if not np.isfinite(values).any():
            raise Broken("the series holds no number")
        return values

    def facts(self) -> dict[str, object]:
        return {"channels": self.channels, "steps": self.steps}

    def describe(self) -> list[str]:
        names = ", ".join(self.channels[:8]) + (", ..." if len(self.channels) > 8 else "")
        steps = "{least:,} to {greatest:,} steps, half of them at most {median:,}".format(**self.steps)
        return [f"{len(self.channels)} channel{'s' if len(self.channels) > 1 else ''} ({names}); {steps}."]


def _unnested(rows: list[Any], name: str) -> tuple[list[list[Any]], list[str]]:
    """Rows of channels, and the channels' names, from rows of lists of lists."""
    there = [row for row in rows if row and all(one is not None for one in row)]
    outer, inner = {len(row) for row in there}, {len(one) for row in there for one in row}
    if len(outer) > 1 and len(inner) == 1:
        rows = [None if row is None or any(one is None for one in row) else [list(channel) for channel in zip(*row, strict=True)] for row in rows]
        count = inner.pop()
    else:
        count = max(outer, key=[len(row) for row in there].count) if outer else 1
    return [[None] if row is None else row for row in rows], [f"{name} {i}" for i in range(count)]


def _wide(names: Sequence[str]) -> dict[str, list[str]]:
    """The columns of each channel."""
    if len(names) < 2:
        return {}
    parsed = [_STEP.fullmatch(name) for name in names]
    if not all(parsed):
        return {"value": list(names)}
    channels: dict[str, list[tuple[int, str]]] = {}
    for name, found in zip(names, parsed, strict=True):
        assert found is not None, "all of them were parsed"
        channels.setdefault(found[1] or "value", []).append((int(found[2]), name))
    if len({len(steps) for steps in channels.values()}) > 1:
        return {"value": list(names)}
    return {word: [name for _, name in sorted(steps)] for word, steps in channels.items()}
