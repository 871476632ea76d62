"""A folder of images with boxes: a text file of the image's name with a line for every box (YOLO), or one JSON file for all of them (COCO).

A text file lies in ``labels/`` where its image lies in ``images/``, or beside the image. Its lines are class, middle x and y, width and height, as shares of the image; a sixth number
would be a confidence and is passed over. An empty file says that nothing is there; an image without a file is unlabelled. Names of classes stand in ``classes.txt``, ``data.yaml`` or the JSON file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from understudy.data import folder as folders
from understudy.data.folder import Files, normal, shown
from understudy.data.modalities.detection import Boxed, DetectionModality
from understudy.data.modalities.image import ImageModality
from understudy.data.pictures import SUFFIXES, Picture, Progress, Unreadable, open_bytes
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, Modality
from understudy.data.scenes import DRAWN, DrawnPictures, different, names_in
from understudy.errors import UserError

FORM = "give a folder with images/ and labels/, a text file of each image's name with lines of class, middle x, middle y, width and height, or images with a COCO JSON file"
MOST_CLASSES = 10_000
Rows = list[tuple[float, float, float, float, int]]
"""Left, top, right and bottom, as shares of the image's sides, and class."""


@dataclass(frozen=True)
class BoxedPicture(Picture):
    """An image nobody has opened yet, and its boxes; None where it has no label."""

    rows: Rows | None = None
    room: int = 1
    """How many boxes the image with most of them has."""
    wrong: str = ""
    """Why its boxes can not be read."""

    def read(self, shorter: int | None = None) -> Boxed:  # type: ignore[override]
        """Decode the image. Raises Unreadable, also where its boxes could not be read."""
        if self.wrong:
            raise Unreadable(self.wrong)
        boxes = torch.full((self.room, 5), -1.0)
        if self.rows:
            boxes[: len(self.rows)] = torch.tensor(self.rows)
        return Boxed(super().read(shorter), boxes)


@dataclass
class Boxes(DrawnPictures):
    """Images with boxes to be encoded."""

    counts: Tensor = field(default_factory=lambda: torch.zeros(MOST_CLASSES, dtype=torch.int64))
    """How many boxes of every class were encoded."""

    kind, drawn = "detection", "boxes"

    def fit(self, size: int | None, seed: int) -> Modality:
        """As of images."""
        whole = super().fit(size, seed)
        assert isinstance(whole, ImageModality)
        return DetectionModality(whole.size, whole.channels, whole.canvas, whole.flip)

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        encoded, kept, digests = super().encode(modality, quarantine)
        for part in torch.arange(len(kept)).split(256):
            classes = encoded.raw(part)["boxes"][..., 4].flatten().long()
            self.counts += torch.bincount(classes[classes >= 0], minlength=MOST_CLASSES)
        return encoded, kept, digests

    def classes(self) -> tuple[str, ...]:
        """Names from a file, or numbers up to the highest that occurs."""
        return self.names or tuple(str(number) for number in range(int(self.counts.nonzero().max()) + 1 if bool(self.counts.any()) else 0))

    def describe(self) -> list[str]:
        said, total = super().describe(), int(self.counts.sum())
        each = [f"{name} {int(self.counts[number]):,}" for number, name in enumerate(self.classes()[:12])]
        more = ", ..." if len(self.classes()) > 12 else ""
        return [*said, f"{total:,} boxes in {len(self.classes())} classes: {', '.join(each)}{more}."] if total else said


def is_boxed(path: Path) -> bool:
    """Whether a folder holds images and boxes of theirs."""
    if (path / "masks").is_dir():
        return False
    if any((place.parent / "labels").is_dir() for place in [path / "images", *path.glob("*/images")] if place.is_dir()):
        return True
    return bool(_annotation_files(path)) or _lines_beside(path)


def read_boxed(
    path: Path, threads: int, memory_limit: int, progress: Progress | None, quarantine: Quarantine
) -> tuple[list[tuple[list[str], list[str | None], Boxes]], list[str]]:
    """Ids, labels (``drawn`` or None) and content of the training data and, where its folders name splits, of the test data; and notes."""
    root = path / "images" if (path / "images").is_dir() else path
    found = folders.walk(root, dict.fromkeys(SUFFIXES, "detection"), quarantine)
    if not found.train.ids:
        raise UserError(f"{shown(root)} holds no image")
    annotated = _annotation_files(path)
    if len(annotated) > 1:
        listed = ", ".join(shown(file.name) for file in annotated)
        raise UserError(f"{shown(path)} has {len(annotated)} files of annotations ({listed}): keep one, and give the others with their images by --test")
    names, notes = _class_names(path), list(found.notes)
    if annotated:
        names, boxes_of = _coco(annotated[0], notes)
    else:
        if not names:
            notes.append("neither classes.txt nor data.yaml names the classes, so they are called by their numbers")
        boxes_of = partial(_yolo, names=names)
    sides, labelled = [], 0
    for files in (found.train, found.test):
        pictures = list(_pictures(files, root, boxes_of))
        labels: list[str | None] = [DRAWN if picture.rows is not None else None for picture in pictures]
        labelled += len(labels) - labels.count(None)
        sides.append((files.ids, labels, Boxes(list(pictures), threads, memory_limit, progress, names=names)))
    if not labelled:
        raise UserError(f"{shown(path)} has boxes for none of its images: {FORM}")
    return sides if found.test.ids else sides[:1], notes


def _pictures(files: Files, root: Path, boxes_of: Callable[[Path, Path], Rows | None]) -> Iterator[BoxedPicture]:
    """Images and their boxes, all with room for as many."""
    known: list[tuple[Path, Rows | None, str]] = []
    for place in files.paths:
        try:
            known.append((place, boxes_of(place, root), ""))
        except Unreadable as error:
            known.append((place, [], str(error)))
    room = max([1, *(len(rows) for _, rows, _ in known if rows)])
    for place, rows, wrong in known:
        yield BoxedPicture(shown(place), partial(open_bytes, place), rows, room, wrong)


def _beside(place: Path) -> Path:
    """The text file of an image: its last folder called images is called labels; without such a folder, it lies beside."""
    parts = list(place.parts)
    at = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] == "images"), None)
    if at is not None and (Path(*parts[:at]) / "labels").is_dir():
        parts[at] = "labels"
    return Path(*parts).with_suffix(".txt")


def _yolo(place: Path, root: Path, names: Sequence[str]) -> Rows | None:
    """The boxes of an image; None where it has no file. Raises Unreadable."""
    file = _beside(place)
    if not file.is_file():
        return None
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"its boxes {shown(file)} can not be read: {getattr(error, 'strerror', None) or 'they are no UTF-8 text'}") from error
    return [_row(line, f"line {number} of {shown(file)}", names) for number, line in enumerate(lines, 1) if line.strip()]


def _row(line: str, where: str, names: Sequence[str]) -> tuple[float, float, float, float, int]:
    values = _numbers(line)
    if len(values) not in (5, 6):
        raise Unreadable(f"{where} is {line[:40]!r} and not five numbers: class, middle x, middle y, width, height")
    x, y, width, height = values[1:5]
    if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
        raise Unreadable(f"{where} has the box {' '.join(line.split()[1:5])}, and middle, width and height are shares of the image, from 0 to 1")
    number = _class(values[0], where, names)
    return max(x - width / 2, 0.0), max(y - height / 2, 0.0), min(x + width / 2, 1.0), min(y + height / 2, 1.0), number


def _numbers(line: str) -> list[float]:
    """What a line says, where it is numbers only; otherwise nothing."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _class(value: float, where: str, names: Sequence[str]) -> int:
    if value != int(value) or not 0 <= value < (len(names) or MOST_CLASSES):
        most = f"there are {len(names)}, from 0 on" if names else f"classes are whole numbers from 0 to {MOST_CLASSES - 1:,}"
        raise Unreadable(f"{where} has the class {value:g}, and {most}")
    return int(value)


def _lines_beside(path: Path) -> bool:
    """Whether text files beside images hold boxes, and not captions: most of the first ones that are not empty do."""
    texts = (file.with_suffix(".txt") for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.with_suffix(".txt").is_file())
    first = (text.read_bytes()[:4096].decode("utf-8", "replace").strip().partition("\n")[0] for text in islice(texts, 50))
    boxes = [len(_numbers(line)) in (5, 6) for line in first if line]
    return sum(boxes) > len(boxes) / 2


def _class_names(path: Path) -> tuple[str, ...]:
    """From classes.txt or data.yaml; nothing where there is neither. Raises UserError."""
    for file in (path / "classes.txt", path / "labels" / "classes.txt"):
        if file.is_file():
            return names_in(file)
    file = path / "data.yaml"
    if not file.is_file():
        return ()
    try:
        said = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        said = None
    names = said.get("names") if isinstance(said, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"{shown(file)} names no classes: it needs 'names', a list, or numbers from 0 on with a name each")
    return different(tuple(str(name) for name in names), file)


def _annotation_files(path: Path) -> list[Path]:
    """JSON files with images, annotations and categories."""
    return [file for place in (path, path / "annotations") for file in sorted(place.glob("*.json")) if _annotations(file) is not None]


def _annotations(file: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and all(isinstance(said.get(name), list) for name in ("images", "annotations", "categories")) else None


def _coco(file: Path, notes: list[str]) -> tuple[tuple[str, ...], Callable[[Path, Path], Rows | None]]:
    """Names of the classes, and what gives the boxes of an image. Raises UserError where images or categories are not what COCO's are."""
    said = _annotations(file)
    assert said is not None, "it was found because it has them"
    try:
        categories = sorted((int(one["id"]), str(one["name"])) for one in said["categories"])
        images = {one["id"]: one for one in said["images"]}
        by_name = {normal(str(one["file_name"])): one for one in said["images"]}
        boxes: dict[Any, list[dict[str, Any]]] = {number: [] for number in images}
        for one in said["annotations"]:
            boxes.setdefault(one["image_id"], []).append(one)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{shown(file)} is no COCO file: an image, a category or an annotation in it has no {error}") from None
    names = different(tuple(name for _, name in categories), file)
    numbers = {number: i for i, (number, _) in enumerate(categories)}
    crowds = sum(bool(one.get("iscrowd")) for one in said["annotations"])
    if crowds:
        notes.append(f"{crowds:,} boxes around crowds are left out")
    if strangers := len(boxes.keys() - images.keys()):
        notes.append(f"the boxes of {strangers:,} images that {shown(file.name)} does not list are passed over")

    def of(place: Path, root: Path) -> Rows | None:
        image = by_name.get(normal(place.relative_to(root).as_posix())) or by_name.get(normal(place.name))
        if image is None:
            return None
        width, height = image.get("width"), image.get("height")
        if not width or not height:
            header = Picture(shown(place), partial(open_bytes, place)).peek()
            width, height = header[:2] if header else (1, 1)
        where = f"{shown(file.name)}, {shown(place.name)},"
        return [_of_annotation(one, where, float(width), float(height), numbers) for one in boxes[image["id"]] if not one.get("iscrowd")]

    return names, of


def _of_annotation(one: dict[str, Any], where: str, width: float, height: float, numbers: dict[int, int]) -> tuple[float, float, float, float, int]:
    try:
        left, top, across, down = (float(value) for value in one["bbox"])
    except (KeyError, TypeError, ValueError):
        raise Unreadable(f"{where} has the box {str(one.get('bbox'))[:40]} and not four numbers: left, top, width, height") from None
    if one.get("category_id") not in numbers:
        raise Unreadable(f"{where} has a box of category {one.get('category_id')!r}, which is not among the categories")
    box = left / width, top / height, (left + across) / width, (top + down) / height
    if not (all(map(math.isfinite, box)) and across > 0 and down > 0 and box[0] < 1 and box[1] < 1 and box[2] > 0 and box[3] > 0):
        raise Unreadable(f"{where} has the box {[left, top, across, down]}, which is not inside of {width:g} x {height:g} pixels")
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], 1.0), min(box[3], 1.0), numbers[one["category_id"]]
