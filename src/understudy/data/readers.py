"""How each kind of data stands in files and in columns of rows. A further kind is a ``Content`` beside the others and its ``Reader`` in ``READERS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from understudy import nearest
from understudy.data import pictures
from understudy.data.folder import shown
from understudy.data.pictures import Pictures, Progress, pictures_in
from understudy.data.prompts import Prompts
from understudy.data.quarantine import Quarantine
from understudy.data.rows import Table, Texts, image_column, pictures_of
from understudy.data.samples import Encoded, Modality
from understudy.errors import UserError


class Content(Protocol):
    """Samples of one side that nobody has encoded yet."""

    kind: str

    def __len__(self) -> int: ...

    def look(self) -> None:
        """Find out what ``fit`` and ``describe`` need."""
        ...

    def fit(self, size: int | None, seed: int) -> Modality:
        """The encoding that suits these samples."""
        ...

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        """The encoded samples, which of them could be read, and a digest of each of those."""
        ...

    def facts(self) -> dict[str, object]: ...

    def describe(self) -> list[str]: ...


@dataclass(frozen=True)
class Options:
    """How to read, for training and test data alike."""

    text_column: str
    label_column: str
    id_column: str | None
    quarantine: Quarantine
    threads: int
    memory_limit: int
    progress: Progress | None

    def features(self, table: pa.Table) -> pa.Table:
        """``table`` without the columns of labels and ids."""
        return table.drop_columns([name for name in (self.label_column, self.id_column) if name in table.column_names])

    @property
    def exchange(self) -> tuple[str, str]:
        """Columns of prompts and answers: they have names of their own, and the options for a text and its label name them too."""
        return "prompt" if self.text_column == "text" else self.text_column, "answer" if self.label_column == "label" else self.label_column


@dataclass(frozen=True)
class Reader:
    """One kind of data."""

    rows: Callable[[pa.Table, Sequence[str], Path, Options], Content]
    """The samples of a table, with where each row stands. Raises UserError where the table has no column of them."""
    recognises: Callable[[pa.Table, Options], bool] = lambda table, options: False
    """Whether a table that nobody said anything about holds this kind of data."""
    suffixes: frozenset[str] = frozenset()
    """Of files that are one sample each."""
    files: Callable[[Sequence[Path], Options], Content] | None = None
    """The samples of files with these suffixes."""


def column(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    """The column ``name``. Raises UserError where ``table`` has none."""
    names = table.column_names
    if name not in names:
        has = f"it has {', '.join(map(repr, names[:12]))}{', ...' if len(names) > 12 else ''}"
        raise UserError(f"{shown(path)} has no column {name!r}; {nearest.hint(name, names, has)}")
    return table.column(name)


def _images(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    features = options.features(table)
    name = image_column(features)
    if name is None:
        raise UserError(f"{shown(path)} has no column of images; it has {', '.join(map(repr, table.column_names[:12]))}")
    return Pictures(pictures_of(features.column(name), where), options.threads, options.memory_limit, options.progress)


def _texts(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    return Texts(column(table, options.text_column, path), where, options.text_column, path)


def _prompts(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    prompt, answer = options.exchange
    column(table, prompt, path)
    return Prompts(table, prompt, answer, where, path)


READERS: Mapping[str, Reader] = {
    "generation": Reader(_prompts, lambda table, options: options.exchange[0] in table.column_names and options.text_column not in table.column_names),
    "image": Reader(
        _images,
        lambda table, options: image_column(options.features(table)) is not None,
        pictures.SUFFIXES,
        lambda paths, options: Pictures(pictures_in(paths), options.threads, options.memory_limit, options.progress),
    ),
    "text": Reader(_texts, lambda table, options: options.text_column in table.column_names),
    "table": Reader(lambda table, where, path, options: Table(options.features(table), path), lambda table, options: True),
}
"""In the order in which rows are asked whether they hold such data; a table is what nothing else recognises."""
SUFFIXES = {suffix: kind for kind, reader in READERS.items() for suffix in reader.suffixes}
