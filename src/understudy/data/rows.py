"""Columns of an Arrow table as texts, as numbers and categories, as images or as labels."""

from __future__ import annotations

import hashlib
import io
import math
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from understudy import keyed
from understudy.data.folder import shown
from understudy.data.modalities.table import Kind, TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.pictures import Picture
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, InMemory, Inputs, Modality
from understudy.errors import UserError

VOCABULARY = 8000
LONGEST = 128
"""Tokens: with more, the built-in student needs longer than minutes on two CPU cores."""
_TOKENIZER_TEXTS = 50_000
_FEW = 10
"""An integer column of at most so many values (and 20 rows a value) is one of categories."""


def label_texts(table: pa.Table, column: str, path: Path) -> list[str | None]:
    """The labels as text, None where there is none. Raises UserError for labels that name no class."""
    if column not in table.column_names:
        return [None] * table.num_rows
    kind = table.schema.field(column).type
    if pa.types.is_nested(kind):
        raise UserError(f"column {column!r} of {shown(path)} holds lists: a sample has one label, as a word or a number")
    values = table.column(column)
    if pa.types.is_floating(kind) and any(math.isfinite(v) and v != math.floor(v) for v in values.to_pylist() if v is not None):
        raise UserError(f"the label column {column!r} of {shown(path)} holds fractions: understudy learns classes, so name a column of classes")
    return as_texts(values)


def as_texts(column: pa.ChunkedArray) -> list[str | None]:
    """Cells as stripped text; empty, null and NaN are None, 3.0 is 3 (a column of whole numbers with gaps is read as floats)."""

    def text(value: Any) -> str | None:
        if value is None or isinstance(value, float) and math.isnan(value):
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return unicodedata.normalize("NFC", str(value).strip()) or None

    return [text(value) for value in column.to_pylist()]


def is_image(kind: pa.DataType) -> bool:
    """Whether a column is what Hugging Face datasets keeps images in: a struct with their encoded bytes."""
    return pa.types.is_struct(kind) and any(field.name == "bytes" and pa.types.is_binary(field.type) for field in kind)


def image_column(table: pa.Table) -> str | None:
    """The first column of images, None where there is none."""
    return next((name for name in table.column_names if is_image(table.schema.field(name).type)), None)


def pictures_of(column: pa.ChunkedArray, where: Sequence[str]) -> list[Picture]:
    """The images of such a column."""

    def stream(i: int) -> BinaryIO:
        data = (column[i].as_py() or {}).get("bytes")
        if data is None:
            raise OSError("the row holds no image")
        return io.BytesIO(data)

    return [Picture(name, partial(stream, i)) for i, name in enumerate(where)]


class Tokens:
    """Token sequences in memory, one after the other."""

    def __init__(self, encoded: Sequence[Inputs], originals: Sequence[str], modality: Modality):
        self.lengths = torch.tensor([len(e["tokens"]) for e in encoded], dtype=torch.int64)
        self.ends = self.lengths.cumsum(0)
        self.tokens = torch.cat([e["tokens"].to(torch.int32) for e in encoded]) if encoded else torch.empty(0, dtype=torch.int32)
        self.originals, self.modality = originals, modality

    def __len__(self) -> int:
        return len(self.lengths)

    def raw(self, indices: Tensor) -> Inputs:
        """The raw batch of these positions, padded to its longest text."""
        pieces = [(int(self.ends[i] - self.lengths[i]), int(self.ends[i])) for i in indices.tolist()]
        return self.modality.collate([{"tokens": self.tokens[a:b].long(), "length": torch.tensor(b - a)} for a, b in pieces])

    def original(self, index: int) -> str:
        """The text."""
        return self.originals[index]


class Texts:
    """A column of texts."""

    kind = "text"

    def __init__(self, column: pa.ChunkedArray, where: Sequence[str], name: str, path: Path):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
            raise UserError(f"column {name!r} of {shown(path)} holds {column.type} instead of text: name a column of texts")
        self.texts: list[str] = [text or "" for text in column.to_pylist()]
        self.where = where
        self.characters: dict[str, int] = {}
        self.tokens: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.texts)

    def look(self) -> None:
        lengths = [len(text) for text in self.texts if text.strip()] or [0]
        self.characters = {"least": min(lengths), "median": round(median(lengths)), "greatest": max(lengths)}

    def fit(self, size: int | None, seed: int) -> Modality:
        """A byte-pair tokenizer learnt from these texts, at a length that holds 95 % of them whole, at most ``size`` (``LONGEST``) tokens."""
        texts = [text for text in self.texts if text.strip()]
        if len(texts) > _TOKENIZER_TEXTS:
            texts = [texts[i] for i in keyed.choice(keyed.fold(seed, "tokenizer"), len(texts), _TOKENIZER_TEXTS).tolist()]
        whole = TextModality.train(texts, VOCABULARY, length=1 << 20)
        lengths = sorted(len(whole.encode(text)["tokens"]) for text in texts[:2000]) or [0]
        most = lengths[math.ceil(0.95 * len(lengths)) - 1]
        self.tokens = {"median": round(median(lengths)), "most of 95 %": most, "vocabulary": whole.vocabulary}
        return TextModality(whole.tokenizer, min(size or LONGEST, max(16, 8 * math.ceil(most / 8))))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        if modality.signature().get("pair"):
            raise UserError("the model reads pairs of texts; name both columns, as in --text-column first,second")
        kept = []
        for i, text in enumerate(self.texts):
            if text.strip():
                kept.append(i)
            else:
                quarantine.add(self.where[i], "the text is empty")
        texts = [self.texts[i] for i in kept]
        digests = [digest(unicodedata.normalize("NFC", " ".join(text.split()))) for text in texts]
        return Tokens([modality.encode(text) for text in texts], texts, modality), kept, digests

    def facts(self) -> dict[str, object]:
        return {"characters": self.characters, "tokens": self.tokens}

    def describe(self) -> list[str]:
        said = "They have {least:,} to {greatest:,} characters, half of them at most {median:,}".format(**self.characters)
        if self.tokens:
            said += f"; 95 % fit in {self.tokens['most of 95 %']:,} of the {self.tokens['vocabulary']:,} tokens learnt from them"
        return [said + "."]


class Cells(Sequence[dict[str, Any]]):
    """The rows of columns of equal length."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], rows: int):
        self.columns, self.rows = columns, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        return {name: column[index] for name, column in self.columns.items()}


class Table:
    """Columns of numbers and categories; those that can teach nothing are dropped, with the reason."""

    kind = "table"

    def __init__(self, table: pa.Table, path: Path):
        self.table, self.path = table, path
        self.kinds: dict[str, Kind] = {}
        self.dropped: dict[str, str] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def look(self) -> None:
        for name in self.table.column_names:
            judged = _judge(self.table.column(name))
            if judged in ("number", "category"):
                self.kinds[name] = judged  # type: ignore[assignment]
            else:
                self.dropped[name] = judged

    def fit(self, size: int | None, seed: int) -> Modality:
        if not self.kinds:
            reasons = ", ".join(f"{name!r}: {reason}" for name, reason in list(self.dropped.items())[:6]) or "it has none besides labels and ids"
            raise UserError(f"{shown(self.path)} has no column to learn from ({reasons}); texts are read from the column named as the text column")
        return TableModality.fit(self._columns(self.kinds), self.kinds)

    def _columns(self, kinds: Mapping[str, Kind]) -> dict[str, Any]:
        missing = [name for name in kinds if name not in self.table.column_names]
        if missing:
            there = ", ".join(map(repr, self.table.column_names[:12]))
            raise UserError(f"{shown(self.path)} has no column {missing[0]!r}, which the training data has; it has {there}")
        return {name: _as_numbers(self.table.column(name)) if kind == "number" else as_texts(self.table.column(name)) for name, kind in kinds.items()}

    def columns(self, modality: TableModality) -> dict[str, Any]:
        """The columns that ``modality`` reads. Raises UserError where one is missing, or holds no number where numbers are."""
        kinds: dict[str, Kind] = {column.name: "number" for column in modality.numbers}
        columns = self._columns(kinds | {column.name: "category" for column in modality.categories})
        for column in modality.numbers:
            if len(self) and np.isnan(columns[column.name]).all():
                raise UserError(f"column {column.name!r} of {shown(self.path)} holds no number, as it does in the training data")
        return columns

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        """Every row can be read: what is not a number where numbers are, and what no category is, counts as missing."""
        assert isinstance(modality, TableModality)
        columns = self.columns(modality)
        rows = Cells(columns, len(self))
        return InMemory(modality.encode_columns(columns), rows), list(range(len(self))), [digest(repr(list(row.values()))) for row in rows]

    def facts(self) -> dict[str, object]:
        return {"columns": self.kinds, "dropped": self.dropped}

    def describe(self) -> list[str]:
        said = []
        for kind, noun in (("number", "numbers"), ("category", "categories")):
            names = [name for name in self.kinds if self.kinds[name] == kind]
            if names:
                said.append(f"{len(names)} columns of {noun}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}.")
        if self.dropped:
            why: dict[str, list[str]] = {}
            for name, reason in self.dropped.items():
                why.setdefault(reason, []).append(name)
            said.append("Columns left out: " + "; ".join(f"{', '.join(names)} ({reason})" for reason, names in why.items()) + ".")
        return said


def _judge(column: pa.ChunkedArray) -> str:
    """number, category, or the reason why a column can teach nothing."""
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or isinstance(kind, pa.BaseExtensionType):
        return f"a cell is {kind}"
    texts = [text for text in as_texts(column) if text is not None]
    distinct = set(texts)
    if not texts:
        return "it is empty"
    if len(distinct) == 1:
        return f"every row says {texts[0]!r}"
    if pa.types.is_boolean(kind):
        return "category"
    if pa.types.is_integer(kind):
        values = [int(text) for text in distinct]
        if len(distinct) == len(column) >= 20 and max(values) - min(values) == len(values) - 1:
            return "it numbers the rows"
        return "category" if 2 < len(distinct) <= _FEW and len(texts) >= 20 * len(distinct) else "number"
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)):
        return "number"
    if len(distinct) > 2 * _FEW and sum(_number(text) is not None for text in texts) >= 0.95 * len(texts):
        return "number"
    own = len(distinct) == len(texts) if len(texts) < 20 else len(distinct) > 0.9 * len(texts)
    return "nearly every row has its own text" if own else "category"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """float64 ``[N]``: dates in days since 1970, times and durations in seconds, NaN for everything that is no finite number."""
    kind, scale = column.type, 1.0
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        column, scale = column.cast(pa.timestamp("ms", tz=zone), safe=False).cast(pa.int64()), 1 / 86_400_000
    elif pa.types.is_time(kind):
        column, scale = column.cast(pa.time64("us")).cast(pa.int64()), 1e-6
    elif pa.types.is_duration(kind):
        column, scale = column.cast(pa.duration("us"), safe=False).cast(pa.int64()), 1e-6
    values = [_number(v) if isinstance(v, str) else v for v in column.to_pylist()]
    numbers = np.array([math.nan if v is None else float(v) for v in values], dtype=np.float64) * scale
    numbers[~np.isfinite(numbers)] = math.nan
    return numbers


def digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
