"""Images with captions: columns of rows, or a folder in which a text file of the same name lies beside every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from understudy.data import folder as folders
from understudy.data.folder import shown
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.image_text import Captioned, ImageTextModality
from understudy.data.modalities.text import TextModality
from understudy.data.pictures import SUFFIXES, Picture, Pictures, Progress, Unreadable, open_bytes
from understudy.data.quarantine import Quarantine
from understudy.data.rows import Texts, image_column, pictures_of
from understudy.data.samples import Modality
from understudy.errors import UserError

PATHS = ("image", "path", "file", "file_name", "filename", "filepath")
"""What a column of paths of images is called."""


@dataclass(frozen=True)
class Pair(Picture):
    """An image and its caption that nobody has opened yet."""

    said: Callable[[], str] = str

    def read(self, shorter: int | None = None) -> Captioned:  # type: ignore[override]
        """Decode the image and read the caption. Raises Unreadable, also where there is no caption."""
        try:
            caption = self.said()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise Unreadable(f"its caption can not be read: {reason}") from error
        if not caption.strip():
            raise Unreadable("its caption is empty")
        return Captioned(super().read(shorter), caption.strip())


@dataclass
class CaptionedPictures(Pictures):
    """Images with captions to be encoded."""

    characters: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    kind = "image-text"

    def fit(self, size: int | None, seed: int) -> Modality:
        """As of images, and a tokenizer learnt from the captions."""
        whole = super().fit(size, seed)
        assert isinstance(whole, ImageModality)
        captions = []
        for picture in self.pictures:
            try:
                captions.append(picture.said())  # type: ignore[attr-defined]
            except (OSError, UnicodeDecodeError):
                captions.append("")  # it goes to quarantine, with the reason, when it is encoded
        texts = Texts(pa.chunked_array([pa.array(captions, pa.string())]), [p.where for p in self.pictures], "caption", Path())
        texts.look()
        text = texts.fit(None, seed)
        assert isinstance(text, TextModality)
        self.characters, self.tokens = texts.characters, texts.tokens
        return ImageTextModality(whole.size, whole.channels, text, whole.canvas)

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "characters": self.characters, "tokens": self.tokens}

    def describe(self) -> list[str]:
        said = "Captions have {least:,} to {greatest:,} characters, half of them at most {median:,}."
        return [*super().describe(), *([said.format(**self.characters)] if self.characters else [])]


def image_source(table: pa.Table) -> str | None:
    """The column of images, encoded or by path; None where there is none."""
    texts = [
        name for name in table.column_names if pa.types.is_string(table.schema.field(name).type) or pa.types.is_large_string(table.schema.field(name).type)
    ]
    return image_column(table) or next((name for name in PATHS if name in texts), None)


def caption_source(table: pa.Table, text_column: str) -> str:
    """The column of captions."""
    return "caption" if text_column == "text" and "caption" in table.column_names else text_column


def of_rows(
    table: pa.Table, captions: pa.ChunkedArray, where: Sequence[str], path: Path, threads: int, memory_limit: int, progress: Progress | None
) -> CaptionedPictures:
    """The rows of a table whose images stand in a column, or at paths in one that begin at the file's own folder."""
    name = image_source(table)
    if name is None:
        there = ", ".join(map(repr, table.column_names[:12]))
        raise UserError(f"{shown(path)} has no column of images or of their paths; call it one of {', '.join(PATHS)} (it has {there})")
    if image_column(table) is None:
        places = [path.parent / (text or "") for text in table.column(name).to_pylist()]
        pictures = [Picture(f"{place} ({shown(file)})", partial(open_bytes, file)) for place, file in zip(where, places, strict=True)]
    else:
        pictures = pictures_of(table.column(name), where)
    said: list[Picture] = [Pair(p.where, p.open, partial(str, text or "")) for p, text in zip(pictures, captions.to_pylist(), strict=True)]
    return CaptionedPictures(said, threads, memory_limit, progress)


def lie_beside(path: Path) -> bool:
    """Whether at least one image below ``path`` has a text file of its name beside it."""
    return any(file.with_suffix(".txt").is_file() for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)


def of_folder(
    path: Path, quarantine: Quarantine, threads: int, memory_limit: int, progress: Progress | None
) -> tuple[list[str], list[str | None], CaptionedPictures, list[str]]:
    """Ids, labels, images with captions, and notes of such a folder. Labels are the names of folders, as of images."""
    found = folders.walk(path, dict.fromkeys(SUFFIXES, "image"), quarantine)
    notes = list(found.notes)
    if found.test.ids:
        notes.append(f"its {len(found.test.ids):,} images in folders called test are left alone: give that folder with --test")
    pairs: list[Picture] = [
        Pair(shown(file), partial(open_bytes, file), partial(file.with_suffix(".txt").read_text, encoding="utf-8")) for file in found.train.paths
    ]
    return found.train.ids, found.train.labels, CaptionedPictures(pairs, threads, memory_limit, progress), notes
