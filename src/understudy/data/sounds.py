"""Sounds in files, or in the column that Hugging Face datasets keeps them in, decoded whole or not at all."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from understudy import keyed
from understudy.data.folder import shown
from understudy.data.modalities.audio import HOP, AudioModality, Sound
from understudy.data.pictures import Progress
from understudy.data.quarantine import Quarantine
from understudy.data.rows import is_image
from understudy.data.samples import Encoded, InMemory, Inputs, Modality
from understudy.errors import MissingExtra, UserError

SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"))
LONGEST = 400
"""Frames of 10 ms: with more, the built-in student needs longer than minutes on two CPU cores."""
HIGHEST_RATE = 16_000
"""Samples a second that the built-in student hears at most: speech needs no more."""
_LOOKED_AT = 200
_BEGINNINGS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"FORM")


class Unreadable(Exception):
    """A sound that can not be decoded whole; the message says why."""


def decode(data: bytes) -> Sound:
    """A sound file: WAV by itself, every other kind with soundfile. Raises Unreadable, and MissingExtra where soundfile is needed and not there."""
    if not data:
        raise Unreadable("the file is empty")
    samples, rate = _wav(data) if data.startswith(b"RIFF") else _other(data)
    if not samples.size:
        raise Unreadable("it holds no sound")
    if not np.isfinite(samples).all():
        raise Unreadable("some samples are not finite numbers")
    return Sound(samples, rate)


def _wav(data: bytes) -> tuple[np.ndarray, int]:
    from scipy.io import wavfile

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            rate, samples = wavfile.read(io.BytesIO(data))
        except Exception as error:  # struct.error, ValueError, UnboundLocalError: whatever a damaged header leads to
            if "format" in str(error).lower():
                return _other(data)
            raise Unreadable(f"damaged: {error}") from error
    if any("EOF" in str(one.message) for one in said):
        raise Unreadable("truncated: it ends before its header says")
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128, rate
    scale = float(np.iinfo(samples.dtype).max) + 1 if samples.dtype.kind == "i" else 1.0
    return (samples / scale).astype(np.float32), rate


def _other(data: bytes) -> tuple[np.ndarray, int]:
    try:
        import soundfile
    except ImportError:
        raise MissingExtra("audio", "a sound that is no plain WAV file") from None
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    except Exception as error:  # libsndfile's errors, and those of a file that ends early
        raise Unreadable(f"not a sound that can be decoded: {str(error).rstrip('.')}") from error
    return samples, int(rate)


def is_sound(column: pa.ChunkedArray) -> bool:
    """Whether a column holds encoded sounds, as Hugging Face datasets keeps them."""
    if not is_image(column.type):
        return False
    first = next((cell["bytes"] for cell in column.slice(0, 20).to_pylist() if cell and cell["bytes"]), b"")
    return first.startswith(_BEGINNINGS)


def sound_column(table: pa.Table) -> str | None:
    """The first column of sounds, None where there is none."""
    return next((name for name in table.column_names if is_sound(table.column(name))), None)


@dataclass(frozen=True)
class Recording:
    """One sound that nobody has opened yet."""

    where: str
    """What a person would call it: its path, or its row."""
    open: Callable[[], BinaryIO]

    def read(self) -> Sound:
        """Decode it. Raises Unreadable."""
        try:
            with self.open() as file:
                data = file.read()
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from error
        return decode(data)


class Originals(Sequence[Sound]):
    """Sounds decoded as they were recorded when somebody asks for them."""

    def __init__(self, recordings: Sequence[Recording]):
        self.recordings = recordings

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Sound:  # type: ignore[override]
        try:
            return self.recordings[index].read()
        except Unreadable as error:
            where = self.recordings[index].where
            raise UserError(f"{where} could be read when this run looked at its data and can not be read any more: {error}") from error


def recordings_in(paths: Sequence[Path]) -> list[Recording]:
    """Sound files, not opened yet."""
    return [Recording(shown(path), partial(_open, path)) for path in paths]


def recordings_of(column: pa.ChunkedArray, where: Sequence[str]) -> list[Recording]:
    """The sounds of such a column."""

    def stream(i: int) -> BinaryIO:
        data = (column[i].as_py() or {}).get("bytes")
        if data is None:
            raise OSError("the row holds no sound")
        return io.BytesIO(data)

    return [Recording(name, partial(stream, i)) for i, name in enumerate(where)]


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


@dataclass
class Sounds:
    """Sounds to be encoded, and what some of them say about all."""

    recordings: list[Recording]
    threads: int = 2
    progress: Progress | None = None
    looked_at: list[Sound] = field(default_factory=list)
    rates: dict[int, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    kind = "audio"

    def __len__(self) -> int:
        return len(self.recordings)

    def look(self) -> None:
        """Decode a few hundred: sampling rates and durations (least, median, greatest)."""
        order = keyed.permutation(keyed.fold(0, "look"), len(self)).tolist()[:_LOOKED_AT]
        reasons = []
        for i in sorted(order):
            try:
                self.looked_at.append(self.recordings[i].read())
            except Unreadable as error:
                reasons.append(f"{self.recordings[i].where}: {error}")
        if not self.looked_at:
            raise UserError(f"not one of {len(order):,} sounds can be read (the first: {reasons[0]})")
        self.rates = dict(Counter(sound.rate for sound in self.looked_at).most_common())
        lasting = sorted(len(sound.samples) / sound.rate for sound in self.looked_at)
        self.seconds = {"least": lasting[0], "median": median(lasting), "most of 95 %": lasting[-1 - len(lasting) // 20], "greatest": lasting[-1]}

    def fit(self, size: int | None, seed: int) -> Modality:
        """The commonest rate, at most ``HIGHEST_RATE``; as long as 95 % of the sounds need, at most ``size`` (``LONGEST``) frames."""
        rate = min(next(iter(self.rates)), HIGHEST_RATE)
        length = min(size or LONGEST, max(2, round(self.seconds["most of 95 %"] / HOP)))
        return AudioModality(rate, length).fitted(self.looked_at)

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        """Decode every sound once; the unreadable go to quarantine."""
        assert isinstance(modality, AudioModality)
        kept: list[int] = []
        encoded: list[Inputs] = []

        def work(recording: Recording) -> Inputs | Unreadable:
            try:
                return modality.encode(recording.read())
            except Unreadable as error:
                return error

        with ThreadPoolExecutor(self.threads) as pool:
            for i, result in enumerate(pool.map(work, self.recordings)):
                if isinstance(result, Unreadable):
                    quarantine.add(self.recordings[i].where, str(result))
                else:
                    kept.append(i)
                    encoded.append(result)
                if self.progress is not None:
                    self.progress(i + 1, len(self))
        digests = [hashlib.blake2b(one["frames"].numpy().tobytes(), digest_size=16).digest() for one in encoded]
        return InMemory(modality.collate(encoded) if encoded else {}, Originals([self.recordings[i] for i in kept])), kept, digests

    def facts(self) -> dict[str, object]:
        return {"rates": {str(rate): count for rate, count in self.rates.items()}, "seconds": self.seconds}

    def describe(self) -> list[str]:
        rates = ", ".join(f"{rate:,}" for rate in self.rates)
        return ["They last {least:.2g} to {greatest:.3g} seconds, half of them at most {median:.2g}".format(**self.seconds) + f"; samples a second: {rates}."]
