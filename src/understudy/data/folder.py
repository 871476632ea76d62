"""A folder of files: which of them are samples, and what their folders say about labels."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from understudy.data.quarantine import Quarantine

NO_LABEL = frozenset(("unlabelled", "unlabeled", "unsupervised", "unsup", "unknown"))
_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(("val", "valid", "validation", "dev"), "validation")


def split_of(name: str) -> str | None:
    """train, validation, test or unlabelled, where a folder or a split of a data set is called so."""
    name = name.lower()
    return "unlabelled" if name in NO_LABEL else _SPLITS.get(name)


def sides(names: Iterable[str]) -> dict[str, str] | None:
    """For names of splits: which side, train or test, each belongs to; None where they are no splits.

    A validation split is the test data where there is no test split, and training data otherwise: understudy holds out its own.
    """
    splits = {name: split_of(name) for name in names}
    if "train" not in splits.values() or None in splits.values():
        return None
    validation = "train" if "test" in splits.values() else "test"
    return {name: {"test": "test", "validation": validation}.get(split or "", "train") for name, split in splits.items()}


def normal(name: str) -> str:
    """Names that look alike are alike: Unicode NFC (macOS stores NFD), forward slashes."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def shown(name: str | Path) -> str:
    """A name that can be printed, even when it holds bytes that are no UTF-8."""
    return os.fsencode(str(name)).decode("utf-8", "replace")


@dataclass
class Files:
    """Files of one side: ids are paths below the root."""

    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)


@dataclass
class Folder:
    """What a folder holds."""

    kind: str | None = None
    """What kind of data its samples are; None where it holds none."""
    train: Files = field(default_factory=Files)
    test: Files = field(default_factory=Files)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no samples, by suffix, and samples with a hidden name."""
    notes: list[str] = field(default_factory=list)


def walk(root: Path, kinds: Mapping[str, str], quarantine: Quarantine) -> Folder:
    """Every sample below ``root``, links followed, no folder read twice, hidden names left out.

    ``kinds``: for a suffix, the kind of data that such a file is a sample of. Samples are the files of the kind that has most of them.

    Labels are the names of the first-level folders where at least two of them hold samples (or one beside a folder of unlabelled ones); below
    ``train`` and ``test`` folders, those of the second level. Special files and broken links called like samples go to quarantine.
    """
    folder = Folder()
    of_kind: dict[str, list[tuple[str, ...]]] = {}
    seen: set[tuple[int, int]] = set()
    for place, inside, files in os.walk(root, followlinks=True, onerror=lambda e: quarantine.add(shown(e.filename), e.strerror or "unreadable")):
        below = Path(place).relative_to(root).parts
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folder.notes.append(f"the folder {shown('/'.join(below))} leads back to a folder that is read already: not read again")
            inside.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        inside[:] = sorted((d for d in inside if not d.startswith((".", "__MACOSX"))), key=lambda d: (os.path.islink(os.path.join(place, d)), d))
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                if suffix in kinds:
                    folder.ignored["hidden"] += 1
            elif suffix not in kinds:
                folder.ignored[suffix or "no suffix"] += 1
            elif not os.path.isfile(os.path.join(place, name)):
                quarantine.add(shown(os.path.join(place, name)), "not a file, or a link that leads nowhere")
            else:
                of_kind.setdefault(kinds[suffix], []).append((*below, name))
    folder.kind = max(of_kind, key=lambda kind: len(of_kind[kind]), default=None)
    for kind, others in of_kind.items():
        if kind != folder.kind:
            folder.ignored.update(Path(parts[-1]).suffix.lower() for parts in others)
    _share_out(root, of_kind.get(folder.kind or "", []), folder)
    return folder


def _share_out(root: Path, found: list[tuple[str, ...]], folder: Folder) -> None:
    """Sides and labels from the folders' names."""
    on = sides({parts[0] for parts in found if len(parts) > 1}) if all(len(parts) > 1 for parts in found) else None
    level = 0
    if on is not None and len(on) > 1:
        level = 1
        folder.notes.append("its folders name splits: " + ", ".join(f"{shown(name)} is {side} data" for name, side in sorted(on.items())))
    else:
        on = None
    branches = {parts[level] for parts in found if len(parts) > level + 1}
    named = {name for name in branches if name.lower() not in NO_LABEL}
    classes = named if len(named) > 1 or len(named) < len(branches) else set()
    names = Counter(normal("/".join(parts)) for parts in found)
    for parts in found:
        side = folder.test if on is not None and on[parts[0]] == "test" else folder.train
        name = "/".join(parts)
        side.ids.append(normal(name) if names[normal(name)] == 1 else name)
        without = level == 1 and parts[0].lower() in NO_LABEL
        side.labels.append(normal(parts[level]) if not without and len(parts) > level + 1 and parts[level] in classes else None)
        side.paths.append(root.joinpath(*parts))
