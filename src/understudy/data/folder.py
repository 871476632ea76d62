"""A folder of images: which files are samples, and what their folders say about labels."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from understudy.data.pictures import Picture
from understudy.data.quarantine import Quarantine

SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff",
    ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif",
))  # fmt: skip
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
class Images:
    """Images of one side: ids are paths below the root."""

    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class Folder:
    """What a folder holds."""

    train: Images = field(default_factory=Images)
    test: Images = field(default_factory=Images)
    ignored: Counter[str] = field(default_factory=Counter)
    """Files that are no images, by suffix, and images with a hidden name."""
    notes: list[str] = field(default_factory=list)


def walk(root: Path, quarantine: Quarantine) -> Folder:
    """Every image below ``root``, links followed, no folder read twice, hidden names left out.

    Labels are the names of the first-level folders where at least two of them hold images (or one beside a folder of unlabelled ones); below
    ``train`` and ``test`` folders, those of the second level. Special files and broken links called like images go to quarantine.
    """
    folder = Folder()
    found: list[tuple[str, ...]] = []
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
                if suffix in SUFFIXES:
                    folder.ignored["hidden"] += 1
            elif suffix not in SUFFIXES:
                folder.ignored[suffix or "no suffix"] += 1
            elif not os.path.isfile(os.path.join(place, name)):
                quarantine.add(shown(os.path.join(place, name)), "not a file, or a link that leads nowhere")
            else:
                found.append((*below, name))
    _share_out(root, found, folder)
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
        path = root.joinpath(*parts)
        side.pictures.append(Picture(shown(path), partial(_open, path)))


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
