"""Image files decoded strictly: whole, upright, in grey or RGB, or not at all."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from understudy.data.folder import shown
from understudy.data.modalities.image import ImageModality
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, InMemory, Inputs, Modality
from understudy.errors import UserError

Image.init()
FORMATS = tuple(name for name in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF") if name in Image.OPEN)
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".tif", ".tiff",
    ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif",
))  # fmt: skip
MOST_PIXELS = 160_000_000
"""A larger image is refused: at 3 bytes a pixel it would take half a gigabyte before it could be made smaller."""
LARGEST_SIZE = 64
"""The built-in students look at squares of at most so many pixels, which two CPU cores train in minutes."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_ORIENTATION = 0x0112

Progress = Callable[[int, int], None]
A = TypeVar("A")
B = TypeVar("B")


class Unreadable(Exception):
    """An image that can not be decoded whole; the message says why."""


def decode(data: bytes, shorter: int | None = None) -> Image.Image:
    """The first frame of an image file, upright, in mode L or RGB.

    Transparency is laid on white. 16-bit grey keeps its upper 8 bits (12-bit data in 16: bits 4 to 11). ``shorter`` lets a JPEG be decoded at an eighth to one
    half of its size as long as the shorter side keeps so many pixels. Raises Unreadable for anything that is not there to the last pixel.
    """
    if not data:
        raise Unreadable("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if shorter is not None and image.format == "JPEG":
            image.draft(image.mode, (shorter, shorter))
        if image.width * image.height > MOST_PIXELS:
            raise Unreadable(f"{image.width:,} x {image.height:,} pixels are more than the {MOST_PIXELS:,} that are read")
        _require_whole(image.format, data)
        image.load()
        return _plain_colours(_upright(image))
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:
        raise Unreadable(str(error)) from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable("not an image, whatever its name says") from error
    except Exception as error:  # codecs raise whatever they stumble over: OSError, SyntaxError, struct.error, RuntimeError ...
        raise Unreadable(f"damaged: {error}") from error


def _require_whole(kind: str | None, data: bytes) -> None:
    """Refuse files whose end is missing or was never written, which some codecs fill with grey without a word."""
    if kind in ("JPEG", "MPO") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise Unreadable("truncated: the JPEG has no end marker")
    if kind == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # checks every checksum
    if kind in ("WEBP", "AVIF") and data.endswith(bytes(64)):
        raise Unreadable("truncated: the file ends in zeros that were never written over")


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, struct.error):
        return image  # broken EXIF beside a sound image says nothing about which way is up
    return image if turn is None else image.transpose(turn)


def _plain_colours(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        return paper.convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Deep grey values as uint8: floats in [0, 1] and integers of 8, 12 or 16 bits by their range, everything else from its least to its greatest."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise Unreadable("some pixels are not finite numbers")
    low, high, whole = float(values.min()), float(values.max()), bool((values == np.floor(values)).all())
    if low >= 0 and not whole and high <= 1:
        low, span = 0.0, 1.0
    elif low >= 0 and whole and high < 65536:
        low, span = 0.0, 255.0 if high < 256 else 4095.0 if high < 4096 else 65535.0
    else:
        span = max(high - low, 1e-12)
    return np.clip((values - low) / span * 256, 0, 255).astype(np.uint8)


def is_grey(mode: str) -> bool:
    """Whether a Pillow mode has no colour."""
    return mode in ("1", "L", "LA", "F") or mode.startswith("I")


@dataclass(frozen=True)
class Picture:
    """One image that nobody has opened yet."""

    where: str
    """What a person would call it: its path, or its row."""
    open: Callable[[], BinaryIO]

    def read(self, shorter: int | None = None) -> Image.Image:
        """Decode it. Raises Unreadable."""
        try:
            with self.open() as file:
                data = file.read()
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from error
        return decode(data, shorter)

    def peek(self) -> tuple[int, int, str, str] | None:
        """Width, height, mode and format from the header, None where there is no sound header."""
        try:
            with self.open() as file, Image.open(file, formats=FORMATS) as image:
                return image.width, image.height, image.mode, image.format or ""
        except Exception:  # the same zoo of errors as in decode, which will give the reason
            return None


class Originals(Sequence[Image.Image]):
    """Images decoded at full size when somebody asks for them."""

    def __init__(self, pictures: Sequence[Picture]):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Image.Image:  # type: ignore[override]
        return _again(self.pictures[index])


def _again(picture: Picture, shorter: int | None = None) -> Image.Image:
    try:
        return picture.read(shorter)
    except Unreadable as error:
        raise UserError(f"{picture.where} could be read when this run looked at its data and can not be read any more: {error}") from error


class OnDisk:
    """Images decoded on demand by a few threads, for data sets that do not fit in memory."""

    def __init__(self, pictures: Sequence[Picture], modality: ImageModality, threads: int):
        self.pictures, self.modality, self.threads = pictures, modality, threads

    def __len__(self) -> int:
        return len(self.pictures)

    def raw(self, indices: Tensor) -> Inputs:
        """The raw batch of these positions, int64 ``[B]``. Raises UserError for a file that has changed under the run."""
        wanted = [self.pictures[i] for i in indices.tolist()]
        return self.modality.collate(list(_threaded(lambda p: self.modality.encode(_again(p, 2 * self.modality.canvas)), wanted, self.threads)))

    def original(self, index: int) -> Image.Image:
        """The image at full size."""
        return _again(self.pictures[index])


def pictures_in(paths: Sequence[Path]) -> list[Picture]:
    """Image files, not opened yet."""
    return [Picture(shown(path), partial(open_bytes, path)) for path in paths]


def open_bytes(path: Path) -> BinaryIO:
    """A file, to be read."""
    return path.open("rb")


@dataclass
class Pictures:
    """Images to be encoded, and what their headers say."""

    pictures: list[Picture]
    threads: int = 2
    memory_limit: int = 2 << 30
    progress: Progress | None = None
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)

    kind = "image"

    def __len__(self) -> int:
        return len(self.pictures)

    def look(self) -> None:
        """Read every header: sizes (least, median, greatest), colour modes, formats."""
        with _quietly():
            headers = [header for header in _threaded(Picture.peek, self.pictures, self.threads) if header is not None]
        if not headers:
            raise UserError(f"not one of the {len(self.pictures):,} images can be read (the first: {self.pictures[0].where})")
        widths, heights, modes, formats = zip(*headers, strict=True)
        by_area = sorted(zip(widths, heights, strict=True), key=lambda size: (size[0] * size[1], size))
        self.sizes = {"least": by_area[0], "median": (round(median(widths)), round(median(heights))), "greatest": by_area[-1]}
        self.modes, self.formats = dict(Counter(modes).most_common()), dict(Counter(formats).most_common())

    def fit(self, size: int | None, seed: int) -> Modality:
        """Small images keep their size (to a multiple of 4), large ones are seen at ``LARGEST_SIZE`` pixels out of a canvas a quarter larger."""
        native = max(8, 4 * round(min(self.sizes["median"]) / 4))
        size = min(native, LARGEST_SIZE) if size is None else size
        channels = 1 if all(is_grey(mode) for mode in self.modes) else 3
        return ImageModality(size=size, channels=channels, canvas=max(size, min(native, 4 * round(size * 1.25 / 4))))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        """Decode every image once; the unreadable go to quarantine.

        Returns the encoded images (in memory where ``memory_limit`` bytes hold them), which of the pictures they are, and a digest of each.
        """
        assert isinstance(modality, ImageModality)
        stored = {name: torch.empty(0, dtype=tensor.dtype) for name, tensor in modality.examples(1).items()}
        fits = len(self.pictures) * sum(tensor.nbytes for tensor in modality.examples(1).values()) <= self.memory_limit
        kept: list[int] = []
        digests: list[bytes] = []

        def work(picture: Picture) -> Inputs | Unreadable:
            try:
                return modality.encode(picture.read(2 * modality.canvas))
            except Unreadable as error:
                return error

        with _quietly():
            for i, result in enumerate(_threaded(work, self.pictures, self.threads)):
                if isinstance(result, Unreadable):
                    quarantine.add(self.pictures[i].where, str(result))
                else:
                    for name, tensor in result.items() if fits else ():
                        if not kept:
                            stored[name] = torch.empty((len(self.pictures), *tensor.shape), dtype=tensor.dtype)
                        stored[name][len(kept)] = tensor
                    kept.append(i)
                    digests.append(hashlib.blake2b(result["image"].numpy().tobytes(), digest_size=16).digest())
                if self.progress is not None:
                    self.progress(i + 1, len(self.pictures))
        pictures = [self.pictures[i] for i in kept]
        if not fits:
            return OnDisk(pictures, modality, self.threads), kept, digests
        return InMemory({name: tensor[: len(kept)] for name, tensor in stored.items()}, Originals(pictures)), kept, digests

    def facts(self) -> dict[str, object]:
        return {"sizes": self.sizes, "modes": self.modes, "formats": self.formats}

    def describe(self) -> list[str]:
        sizes = {name: f"{width:,} x {height:,}" for name, (width, height) in self.sizes.items()}
        modes, formats = (", ".join(f"{name} {count:,}" for name, count in counts.items()) for counts in (self.modes, self.formats))
        return [f"Sizes from {sizes['least']} to {sizes['greatest']} pixels, median {sizes['median']}; colour modes {modes}; formats {formats}."]


def _quietly() -> AbstractContextManager[None]:
    """Pillow's warnings about odd metadata and large images are ours to judge, not the user's to read."""
    return warnings.catch_warnings(action="ignore")


def _threaded(work: Callable[[A], B], items: Sequence[A], threads: int) -> Iterator[B]:
    """``work`` over ``items`` in order, a bounded number ahead of what was consumed."""
    with ThreadPoolExecutor(threads) as pool:
        rest = iter(items)
        ahead = deque(pool.submit(work, item) for item in islice(rest, 32 * threads))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(work, item) for item in islice(rest, 1))
