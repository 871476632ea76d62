"""Opening what the user points at: a folder of files, a file of rows, or a datasets directory."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from understudy.data import folder as folders
from understudy.data import tables_on_disk as files
from understudy.data.folder import shown
from understudy.data.found import Facts, Found
from understudy.data.label_file import Names, read_labels
from understudy.data.pictures import Progress
from understudy.data.prompts import Prompts
from understudy.data.quarantine import Quarantine
from understudy.data.readers import READERS, SUFFIXES, Content, Options, column
from understudy.data.rows import label_texts
from understudy.data.samples import Encoded, Modality, Samples
from understudy.data.scenes import DrawnPictures, check_classes
from understudy.errors import UserError


@dataclass
class Side:
    """Training or test samples before encoding."""

    ids: list[str]
    labels: list[str | None]
    content: Content
    root: Path | None = None
    """The folder that ids are paths below."""
    numbered: bool = False
    """Whether ids are row numbers, which mean something in their own file only."""

    @property
    def drawn(self) -> DrawnPictures | None:
        """The content, where labels are drawn on the samples instead of being a class each."""
        return self.content if isinstance(self.content, DrawnPictures) else None


@dataclass
class Reading:
    """One path, read."""

    sides: dict[str, Side]
    ignored: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def open_source(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    test: str | Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
    id_column: str | None = None,
    modality: str | Modality | None = None,
    classes: Sequence[str] | None = None,
    quarantine: Quarantine | None = None,
    size: int | None = None,
    seed: int = 0,
    threads: int = 2,
    memory_limit: int = 2 << 30,
    progress: Progress | None = None,
) -> Found:
    """Find the samples at ``path``, read and encode every one of them, and say what was found.

    ``labels``: CSV of path or row id and label; everything else is then unlabelled. ``test``: data of the same kind, encoded alike and kept as it is;
    samples that also occur there are left out of training. ``modality``: a kind of data (image, text, table ...) instead of what it looks like, or
    the modality of a model whose encoding and ``classes`` the data must follow. ``size``: pixels a side (or tokens) that the student sees.
    ``memory_limit``: bytes of encoded images kept in memory; more are decoded on demand. ``progress(done, total)`` is called as images are decoded.

    Raises UserError for every mistake that a user can make, and where too much of the data can not be read.
    """
    path = Path(path)
    if isinstance(modality, str) and modality not in READERS:
        raise UserError(f"there is no modality {modality!r}: choose one of {', '.join(READERS)}")
    options = Options(text_column, label_column, id_column, Quarantine() if quarantine is None else quarantine, threads, memory_limit, progress)
    known = None if modality is None or isinstance(modality, str) else modality
    reading = _read(path, modality if isinstance(modality, str) else known.name if known else None, options)
    train, held = reading.sides["train"], reading.sides.get("test")
    if test is not None:
        if held is not None:
            reading.notes.append(f"{len(held.ids):,} samples that {shown(path)} itself sets aside for testing are not used, since other test data was given")
        other = _read(Path(test), train.content.kind, options)
        held = other.sides.get("test", other.sides["train"])
        reading.notes += [f"test data: {note}" for note in other.notes]
    if labels is not None and train.drawn:
        raise UserError(f"the labels of {shown(path)} are its {train.drawn.drawn}; leave --labels out")
    if labels is not None:
        _must_exist(Path(labels))
        sides = [train] if held is None or held.numbered else [train, held]
        # Test samples with labels of their own keep them: another folder may well use the same file names.
        sides = [side for side in sides if side is train or not any(side.labels)]
        _label_from(Path(labels), sides, label_column, reading.notes)
    elif train.root is None and not any(train.labels):
        what = ("an answer", "answer" if label_column == "label" else label_column) if train.content.kind == "generation" else ("a label", label_column)
        reading.notes.append(f"no row has {what[0]}: there is nothing in a column {what[1]!r}")

    train.content.look()
    encoding = known or train.content.fit(size, seed)
    everything = _Encoded.of(train, encoding, options.quarantine, path)
    tested = None if held is None else _Encoded.of(held, encoding, options.quarantine, Path(test or path))
    options.quarantine.check(len(train.ids) + (len(held.ids) if held else 0))

    if train.drawn:
        names = tuple(classes or train.drawn.classes())
        for side, where in ((train, path), (held, test or path)):
            if side is not None and side.drawn:
                check_classes(side.drawn, names, shown(where))
        for one in filter(None, (everything, tested)):
            one.labels = [names[0] if label else None for label in one.labels]
    else:
        names = tuple(classes or _sorted_names(everything.labels) or _sorted_names(tested.labels if tested else []))
    samples = everything.samples(encoding, names, f"the labels of {shown(path)}", prefix="")
    facts = Facts(shown(path), train.content.kind, content=train.content.facts(), ignored=dict(reading.ignored.most_common()), notes=reading.notes)
    test_samples = None
    if tested is not None:
        test_samples = tested.samples(encoding, names, f"the test data {shown(test or path)}", prefix="test:")
        samples = _apart(samples, everything, tested, facts)
        if train.content.kind != "generation":  # answers can be checked without a label
            test_samples = _only_labelled(test_samples, shown(test or path), facts)
    first_labels: dict[bytes, str | None] = {}
    for digest, label in zip(everything.digests, everything.labels, strict=True):
        if digest in first_labels:
            facts.copies_within += 1
            facts.conflicting += None not in (label, first_labels[digest]) and label != first_labels[digest]
        else:
            first_labels[digest] = label
    facts.unreadable = list(options.quarantine.rows)
    facts.samples, facts.labelled = len(samples), int((samples.labels >= 0).sum())
    facts.classes = {} if train.drawn else _class_counts(samples)
    if test_samples is not None:
        facts.test, facts.test_classes = len(test_samples), {} if train.drawn else _class_counts(test_samples)
    return Found(samples, test_samples, facts, train.content.describe())


@dataclass
class _Encoded:
    """One side after encoding: only what could be read."""

    encoded: Encoded
    ids: list[str]
    labels: list[str | None]
    digests: list[bytes]

    @classmethod
    def of(cls, side: Side, modality: Modality, quarantine: Quarantine, path: Path) -> _Encoded:
        encoded, kept, digests = side.content.encode(modality, quarantine)
        if not kept:
            reason = f" (the first: {': '.join(quarantine.rows[0])})" if quarantine.rows else ""
            raise UserError(f"not one of the {len(side.ids):,} samples of {shown(path)} can be read{reason}")
        return cls(encoded, [side.ids[i] for i in kept], [side.labels[i] for i in kept], digests)

    def samples(self, modality: Modality, classes: tuple[str, ...], what: str, prefix: str) -> Samples:
        numbers: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
        unknown = sorted({label for label in self.labels if label is not None} - set(classes))
        if unknown:
            listed = ", ".join(repr(name) for name in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise UserError(f"{what} name classes that the training data has no sample of: {listed}; it knows {', '.join(map(repr, classes[:20]))}")
        labels = torch.tensor([numbers.get(label, -1) for label in self.labels], dtype=torch.int64)
        return Samples(modality, self.encoded, tuple(prefix + name for name in self.ids), labels, classes)


def _apart(samples: Samples, train: _Encoded, test: _Encoded, facts: Facts) -> Samples:
    """Without the copies of test samples. Rows of a table stay: few columns make equal rows by chance, and dropping those would bend the data."""
    tested = set(test.digests)
    copies = torch.tensor([digest in tested for digest in train.digests])
    facts.copies_across = int(copies.sum())
    if bool(copies.all()):
        raise UserError(f"every training sample of {facts.path} is in the test data as well: give test data of its own")
    return samples if facts.kind == "table" else samples.take(~copies)


def _only_labelled(test: Samples, path: str, facts: Facts) -> Samples:
    without = int((test.labels < 0).sum())
    if without == len(test):
        raise UserError(f"the test data {path} has no labels: nothing can be measured on it")
    if without:
        facts.notes.append(f"{without:,} test samples have no label and are left out")
    return test.labelled if without else test


def _class_counts(samples: Samples) -> dict[str, int]:
    counts = torch.bincount(samples.labels[samples.labels >= 0], minlength=len(samples.classes)).tolist()
    return dict(zip(samples.classes, counts, strict=True))


def _sorted_names(labels: Sequence[str | None]) -> list[str]:
    """Numbers by value, then words by the alphabet."""
    return sorted({label for label in labels if label is not None}, key=lambda name: (0, int(name), name) if name.lstrip("-").isdecimal() else (1, 0, name))


def _label_from(path: Path, sides: Sequence[Side], label_column: str, notes: list[str]) -> None:
    """Labels from a file: the first of ``sides`` has these and no others, the rest where the file names them."""
    names = [Names(side.ids, side.root, side.numbered) for side in sides]
    labelled = read_labels(path, lambda name: any(known.find(name) is not None for known in names), sides[0].ids[0], label_column)
    missing = set(labelled.entries)
    for side, known in zip(sides, names, strict=True):
        labels, understood = labelled.apply(known)
        missing -= understood
        side.labels = labels if understood or side is sides[0] else side.labels
    if missing:
        some = ", ".join(map(shown, sorted(missing)[:3])) + (", ..." if len(missing) > 3 else "")
        notes.append(f"{len(missing):,} names in {shown(path)} are no samples of the data and are passed over: {some}")


def _must_exist(path: Path) -> None:
    if path.exists():
        return
    parent = next(p for p in path.absolute().parents if p.is_dir())
    near = difflib.get_close_matches(path.absolute().relative_to(parent).parts[0], [p.name for p in parent.iterdir()], 3)
    raise UserError(f"{shown(path)} does not exist" + (f"; {shown(parent)} has {', '.join(map(shown, near))}" if near else ""))


def _read(path: Path, kind: str | None, options: Options) -> Reading:
    _must_exist(path)
    if path.is_dir():
        if files.is_datasets_folder(path):
            rows = files.read_datasets_folder(path, options.label_column)
            return Reading({side: _side(found, path, kind, options) for side, found in rows.items()})
        for name, reader in READERS.items():
            if reader.folder is not None and kind in (None, name) and reader.opens(path):
                opened = reader.folder(path, options)
                sides = {"train": opened} | ({"test": opened.test} if opened.test is not None else {})
                return Reading({name: Side(one.ids, one.labels, one.content, path) for name, one in sides.items()}, notes=opened.notes)
        return _read_folder(path, kind, options)
    files.refuse_pickled(path)
    if path.suffix.lower() in files.SUFFIXES:
        return Reading({"train": _side(files.read_file(path, options.quarantine), path, kind, options)})
    if path.suffix.lower() in SUFFIXES:
        raise UserError(f"{shown(path)} is one sample ({SUFFIXES[path.suffix.lower()]}): give the folder that holds all of them")
    raise UserError(f"{shown(path)} is of no kind that is read: give a folder of samples, a datasets directory, or one of {', '.join(sorted(files.SUFFIXES))}")


def _read_folder(path: Path, kind: str | None, options: Options) -> Reading:
    """A folder in which every sample is a file."""
    if kind is not None and READERS[kind].folder is not None:
        raise UserError(f"{shown(path)} has not the form of {kind} data: {READERS[kind].form}")
    if kind is not None and READERS[kind].files is None:
        raise UserError(f"{shown(path)} is a folder, and samples of kind {kind} are rows: give a file of rows")
    folder = folders.walk(path, {suffix: of for suffix, of in SUFFIXES.items() if kind in (None, of)}, options.quarantine)
    if folder.kind is None:
        what = ", ".join(f"{count:,} {suffix}" for suffix, count in folder.ignored.most_common(4)) or "nothing"
        wanted = f"{kind} file" if kind else "file that is a sample"
        raise UserError(f"{shown(path)} holds no {wanted} (it holds {what}): give a folder of images or other samples, or one file of rows")
    content_of = READERS[folder.kind].files
    assert content_of is not None, "its suffixes were looked for"
    sides = {
        name: Side(found.ids, found.labels, content_of(found.paths, options), path)
        for name, found in (("train", folder.train), ("test", folder.test)) if found.ids
    }  # fmt: skip
    for side in sides.values():
        if not any(side.labels) and (path / "labels.csv").is_file():
            _label_from(path / "labels.csv", [side], options.label_column, folder.notes)
            folder.notes.append(f"labels were taken from {shown(path / 'labels.csv')}")
    return Reading(sides, folder.ignored, folder.notes)


def _side(rows: files.Rows, path: Path, kind: str | None, options: Options) -> Side:
    """Rows as whatever kind of data their columns hold."""
    table = rows.table
    named = [*(options.texts(table) if options.text_column != "text" else ()), *([options.label_column] if options.label_column != "label" else ())]
    for name in (*named, options.id_column):
        if name is not None:
            column(table, name, path)
    kind = kind or next(kind for kind, reader in READERS.items() if reader.recognises(table, options))
    number = len(str(max(rows.numbers)))
    ids = [f"row-{i:0{max(6, number)}d}" for i in rows.numbers]
    if options.id_column is not None:
        ids = [str(value) for value in table.column(options.id_column).to_pylist()]
        twice = [name for name, count in Counter(ids).items() if count > 1]
        if twice:
            raise UserError(f"column {options.id_column!r} of {shown(path)} does not tell rows apart: {twice[0]!r} occurs more than once")
    content = READERS[kind].rows(table, [f"{shown(path)} row {i}" for i in rows.numbers], path, options)
    labels = content.labels if isinstance(content, Prompts) else label_texts(table, options.label_column, path)
    return Side(ids, labels, content, numbered=options.id_column is None)
