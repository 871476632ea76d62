"""A folder of images with masks of the same names: ``images/`` and ``masks/``, and perhaps ``classes.txt``, a name a line."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from understudy.data import folder as folders
from understudy.data.folder import shown
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.segmentation import Scene, SegmentationModality
from understudy.data.pictures import SUFFIXES, Picture, Pictures, Progress, Unreadable, open_bytes
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, Modality
from understudy.errors import UserError
from understudy.maths import UNLABELLED

DRAWN = "drawn"
"""What the label of an image with a mask is called until the classes are known."""


@dataclass(frozen=True)
class Drawn(Picture):
    """An image and the file of its mask, where there is one; nobody has opened them yet."""

    mask: Path | None = None

    def read(self, shorter: int | None = None) -> Scene:  # type: ignore[override]
        """Decode both, at full size. Raises Unreadable, also where the mask is no mask of this image."""
        image = super().read()
        if self.mask is None:
            return Scene(image)
        try:
            mask = decode_mask(self.mask.read_bytes())
        except OSError as error:
            raise Unreadable(f"its mask can not be read: {error.strerror or error}") from error
        if mask.size != image.size:
            raise Unreadable(f"the image has {image.width} x {image.height} pixels and its mask {shown(self.mask)} {mask.width} x {mask.height}")
        return Scene(image, mask)


def decode_mask(data: bytes) -> Image.Image:
    """The classes of a mask, mode L. Raises Unreadable for what is no PNG of one whole number a pixel up to 255."""
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.load()
    except Exception as error:  # as of images: codecs raise whatever they stumble over
        raise Unreadable(f"its mask is no sound PNG: {error}") from error
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise Unreadable(f"its mask has colours (mode {image.mode}) instead of the number of a class in every pixel")
    values = np.asarray(image).astype(np.int64)
    if values.max() > UNLABELLED:
        raise Unreadable(f"its mask has a pixel of class {values.max()}; classes are numbers from 0 to 254, and 255 is no label")
    return Image.fromarray(values.astype(np.uint8))


@dataclass
class DrawnPictures(Pictures):
    """Images to be encoded whose labels are drawn on them."""

    names: tuple[str, ...] = ()
    """Of the classes, from a file; none where there is no such file."""

    drawn = ""
    """What the labels are, in the plural."""

    def classes(self) -> tuple[str, ...]:
        """Names of the classes, once everything is encoded."""
        raise LookupError("a kind of drawn label says which classes there are")


@dataclass
class Scenes(DrawnPictures):
    """Images with masks to be encoded."""

    pixels: Tensor = field(default_factory=lambda: torch.zeros(256, dtype=torch.int64))
    """How many pixels of every class were encoded."""

    kind, drawn = "segmentation", "masks"

    def fit(self, size: int | None, seed: int) -> Modality:
        """As of images."""
        whole = super().fit(size, seed)
        assert isinstance(whole, ImageModality)
        return SegmentationModality(whole.size, whole.channels, whole.canvas, whole.flip)

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        encoded, kept, digests = super().encode(modality, quarantine)
        drawn = [i for i, k in enumerate(kept) if isinstance(picture := self.pictures[k], Drawn) and picture.mask is not None]
        for part in torch.tensor(drawn, dtype=torch.int64).split(256):
            self.pixels += torch.bincount(encoded.raw(part)["mask"].flatten().long(), minlength=256)
        return encoded, kept, digests

    def classes(self) -> tuple[str, ...]:
        """Names from the file, or numbers up to the highest that occurs. Raises UserError where a mask has a class without a name."""
        found = int(self.pixels[:UNLABELLED].nonzero().max()) + 1 if bool(self.pixels[:UNLABELLED].any()) else 0
        if self.names and found > len(self.names):
            raise UserError(f"a mask has a pixel of class {found - 1}, and classes.txt names {len(self.names)} classes, from 0 on; name them all")
        return self.names or tuple(str(number) for number in range(found))

    def describe(self) -> list[str]:
        said, total = super().describe(), int(self.pixels[:UNLABELLED].sum())
        if total:
            shares = [f"{name} {int(self.pixels[number]) / total:.1%}" for number, name in enumerate(self.classes()[:12])]
            said.append(
                f"{len(self.classes())} classes, by their share of the labelled pixels: {', '.join(shares)}{', ...' if len(self.classes()) > 12 else ''}."
            )
        return said


def is_drawn(path: Path) -> bool:
    """Whether a folder holds images and masks."""
    return (path / "images").is_dir() and (path / "masks").is_dir()


def read_drawn(
    path: Path, threads: int, memory_limit: int, progress: Progress | None, quarantine: Quarantine
) -> tuple[list[str], list[str | None], Scenes, list[str]]:
    """Ids, labels (``drawn`` or None), content and notes of the folder ``path``. A mask belongs to the image of its name, whatever the suffixes."""
    found = folders.walk(path / "images", dict.fromkeys(SUFFIXES, "segmentation"), quarantine)
    files = found.train.ids + found.test.ids, found.train.paths + found.test.paths
    if not files[0]:
        raise UserError(f"{shown(path / 'images')} holds no image")
    masks = {mask.relative_to(path / "masks").with_suffix("").as_posix(): mask for mask in sorted((path / "masks").rglob("*.png"))}
    if not masks:
        raise UserError(f"{shown(path / 'masks')} holds no PNG file: a mask has the name of its image and the number of a class in every pixel")
    pictures: list[Picture] = []
    for place in files[1]:
        mask = masks.pop(place.relative_to(path / "images").with_suffix("").as_posix(), None)
        pictures.append(Drawn(shown(place), partial(open_bytes, place), mask))
    notes = []
    if masks:
        some = ", ".join(shown(name) for name in list(masks)[:3]) + (", ..." if len(masks) > 3 else "")
        notes.append(f"{len(masks):,} masks have the name of no image and are passed over: {some}")
    labels: list[str | None] = [DRAWN if isinstance(p, Drawn) and p.mask is not None else None for p in pictures]
    return files[0], labels, Scenes(pictures, threads, memory_limit, progress, names=_names(path / "classes.txt")), notes


def _names(path: Path) -> tuple[str, ...]:
    return names_in(path) if path.is_file() else ()


def names_in(path: Path) -> tuple[str, ...]:
    """Names of classes, one a line. Raises UserError."""
    try:
        names = tuple(line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError:
        raise UserError(f"{shown(path)} is not UTF-8 text: write the name of a class on every line") from None
    return different(names, path)


def different(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """Names of classes that ``path`` gives. Raises UserError where it gives one twice."""
    if len(set(names)) < len(names):
        raise UserError(f"{shown(path)} names a class twice: every class must have another name")
    return names


def check_classes(content: DrawnPictures, known: Sequence[str], what: str) -> None:
    """Raise UserError where drawn labels have classes that the training data, or the model, do not know."""
    classes = content.classes()
    if len(classes) > len(known) or (content.names and content.names != tuple(known)):
        raise UserError(
            f"{what} has the classes {', '.join(classes[:8])}, and what it is read for knows {', '.join(known[:8])}: give {content.drawn} of the same classes"
        )
