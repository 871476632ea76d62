"""How each kind of data stands in files and in columns of rows. A further kind is a ``Content`` beside the others and its ``Reader`` in ``READERS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from understudy import nearest
from understudy.data import boxes, captions, clouds, graphs, pictures, scenes, sounds
from understudy.data.folder import shown
from understudy.data.molecules import Molecules
from understudy.data.pictures import Pictures, Progress, pictures_in
from understudy.data.prompts import Prompts
from understudy.data.quarantine import Quarantine
from understudy.data.rows import Table, Texts, image_column, pictures_of
from understudy.data.samples import Encoded, Modality
from understudy.data.series import Series, is_nested, is_series
from understudy.data.sounds import Sounds, recordings_in, recordings_of, sound_column
from understudy.data.text_pairs import Pairs
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

    def texts(self, table: pa.Table) -> tuple[str, ...]:
        """The column of texts, or both columns of pairs."""
        one = "," not in self.text_column or self.text_column in table.column_names
        return (self.text_column,) if one else tuple(name.strip() for name in self.text_column.split(","))

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
    opens: Callable[[Path], bool] = lambda path: False
    """Whether a folder that nobody said anything about has the form of this kind of data, where that has a form of its own."""
    folder: Callable[[Path, Options], Opened] | None = None
    """What such a folder holds."""
    form: str = ""
    """What its form is, for whoever gave another."""


class Opened(NamedTuple):
    """A folder in a form of its own."""

    ids: list[str]
    labels: list[str | None]
    content: Content
    notes: list[str]
    test: Opened | None = None
    """What its folders set aside for testing."""


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
    names = options.texts(table)
    columns = [column(table, name, path) for name in names]
    return Texts(columns[0], where, names[0], path) if len(names) == 1 else Pairs(columns, where, names, path)


def smiles_column(table: pa.Table, options: Options) -> str | None:
    """The column of SMILES, by its name or because the option for a text names it; None where neither does."""
    if options.text_column != "text":
        return options.text_column
    return next((name for name in table.column_names if name.lower() == "smiles"), None)


def _molecules(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    name = smiles_column(table, options) or "smiles"
    return Molecules(column(table, name, path), where, name, path)


def _sounds(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    features = options.features(table)
    name = sound_column(features)
    if name is None:
        raise UserError(f"{shown(path)} has no column of encoded sounds; it has {', '.join(map(repr, table.column_names[:12]))}")
    return Sounds(recordings_of(features.column(name), where), options.threads, options.progress)


def _has_series(table: pa.Table, options: Options) -> bool:
    if options.text_column in table.column_names:
        return False
    return any(is_series(kind) or is_nested(kind) for kind in options.features(table).schema.types)


def _prompts(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    prompt, answer = options.exchange
    column(table, prompt, path)
    return Prompts(table, prompt, answer, where, path)


def _no_scenes(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    raise UserError(f"{shown(path)} is a file of rows, and masks are drawn: give a folder with images/ and masks/, PNG files of the images' names")


def _scenes(path: Path, options: Options) -> Opened:
    return Opened(*scenes.read_drawn(path, options.threads, options.memory_limit, options.progress, options.quarantine))


def _no_boxes(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    raise UserError(f"{shown(path)} is a file of rows, and boxes are drawn: {boxes.FORM}")


def _boxes(path: Path, options: Options) -> Opened:
    sides, notes = boxes.read_boxed(path, options.threads, options.memory_limit, options.progress, options.quarantine)
    return Opened(*sides[0], notes, *(Opened(*side, []) for side in sides[1:]))


def _no_nodes(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    raise UserError(f"{shown(path)} is a file of rows, and a graph is a folder: {graphs.FORM}")


def _graph(path: Path, options: Options) -> Opened:
    return Opened(*graphs.read_graph(path, options.id_column, options.label_column, options.quarantine))


def _points(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    name = clouds.points_column(table)
    if name is None:
        raise UserError(f"{shown(path)} has no column 'points' of lists of three numbers; it has {', '.join(map(repr, table.column_names[:12]))}")
    return clouds.Clouds(clouds.clouds_of(table.column(name), where))


def _captions(table: pa.Table, where: Sequence[str], path: Path, options: Options) -> Content:
    said = column(table, captions.caption_source(table, options.text_column), path)
    return captions.of_rows(table, said, where, path, options.threads, options.memory_limit, options.progress)


def _captioned(path: Path, options: Options) -> Opened:
    return Opened(*captions.of_folder(path, options.quarantine, options.threads, options.memory_limit, options.progress))


READERS: Mapping[str, Reader] = {
    "detection": Reader(_no_boxes, opens=boxes.is_boxed, folder=_boxes, form=boxes.FORM),
    "image-text": Reader(
        _captions,
        lambda table, options: "caption" in table.column_names and captions.image_source(options.features(table)) is not None,
        opens=captions.lie_beside,
        folder=_captioned,
        form="give a folder of images with a .txt file of the same name beside each, or a file of rows with a column caption and one of paths",
    ),
    "points": Reader(
        _points, lambda table, options: clouds.points_column(table) is not None, clouds.SUFFIXES, lambda paths, options: clouds.Clouds(clouds.clouds_in(paths))
    ),
    "graph": Reader(_no_nodes, opens=graphs.is_graph, folder=_graph, form=graphs.FORM),
    "segmentation": Reader(_no_scenes, opens=scenes.is_drawn, folder=_scenes, form="give a folder with images/ and masks/, PNG files of the images' names"),
    "molecule": Reader(_molecules, lambda table, options: (smiles_column(table, options) or "").lower() == "smiles" and "text" not in table.column_names),
    "generation": Reader(_prompts, lambda table, options: options.exchange[0] in table.column_names and options.text_column not in table.column_names),
    "audio": Reader(
        _sounds,
        lambda table, options: sound_column(options.features(table)) is not None,
        sounds.SUFFIXES,
        lambda paths, options: Sounds(recordings_in(paths), options.threads, options.progress),
    ),
    "image": Reader(
        _images,
        lambda table, options: image_column(options.features(table)) is not None,
        pictures.SUFFIXES,
        lambda paths, options: Pictures(pictures_in(paths), options.threads, options.memory_limit, options.progress),
    ),
    "text": Reader(_texts, lambda table, options: set(options.texts(table)) <= set(table.column_names)),
    "series": Reader(lambda table, where, path, options: Series(options.features(table), where, path), _has_series),
    "table": Reader(lambda table, where, path, options: Table(options.features(table), path), lambda table, options: True),
}
"""In the order in which folders and rows are asked whether they hold such data; a table is what nothing else recognises."""
SUFFIXES = {suffix: kind for kind, reader in READERS.items() for suffix in reader.suffixes}
