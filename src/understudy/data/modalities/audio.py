"""Sounds: one channel at one sampling rate, kept as logarithmic mel spectrograms; views that shift, make louder and leave bands and moments out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.timeline import blank, collated, hidden, middle, shifted, spans, there
from understudy.data.samples import Inputs, View
from understudy.errors import UserError

WINDOW, HOP = 0.025, 0.010
"""Seconds that a frame looks at, and seconds from one frame to the next."""
_QUIETEST = 1e-8
"""Power under which everything is silence; full scale is 1."""
_LOUDER = 6.0 * math.log(10.0) / 10.0
"""6 dB of power as a natural logarithm."""


class Sound(NamedTuple):
    """A sound as it was recorded."""

    samples: np.ndarray
    """float32 ``[n]`` or ``[n, channels]`` in [-1, 1]."""
    rate: int
    """Samples a second."""


class AudioModality:
    """Sounds resampled to ``rate``, of which at most ``length`` frames are seen: the middle of longer ones.

    A frame is the logarithm of the power in ``mels`` bands, evenly spread over the mel scale, less ``mean`` and divided by ``std``.
    """

    name = "audio"
    noun = "sounds"
    views: tuple[str, ...] = ("plain", "weak", "strong", "masked")

    def __init__(self, rate: int, length: int, mels: int = 40, mean: float = 0.0, std: float = 1.0):
        if rate < 1000 or length < 2 or mels < 1:
            raise UserError(f"sounds need a rate of at least 1,000 samples a second, two frames and a band; got rate={rate}, length={length}, mels={mels}")
        self.rate, self.length, self.mels, self.mean, self.std = rate, length, mels, mean, std
        self.window, self.hop = round(WINDOW * rate), round(HOP * rate)
        self.points = 1 << (self.window - 1).bit_length()
        self._filters: Tensor | None = None

    def signature(self) -> dict[str, Any]:
        return {"name": self.name, "rate": self.rate, "length": self.length, "mels": self.mels, "mean": self.mean, "std": self.std}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None = None) -> AudioModality:
        return cls(**{name: value for name, value in signature.items() if name != "name"})

    def fitted(self, sounds: Sequence[Sound]) -> AudioModality:
        """The same with the mean and the deviation of these sounds."""
        frames = torch.cat([self.spectrogram(sound).flatten() for sound in sounds]).double()
        return AudioModality(self.rate, self.length, self.mels, float(frames.mean()), float(frames.std(correction=0)) or 1.0)

    def shape(self) -> dict[str, Any]:
        return {"mels": self.mels, "length": self.length}

    def examples(self, count: int) -> Inputs:
        keys = torch.as_tensor(keyed.fold(keyed.fold(0, "example"), torch.arange(count)))
        steps = self.length - torch.arange(count) % 2
        return {"frames": blank(keyed.normal(keys, (self.mels, self.length)), steps).half(), "steps": steps}

    def encode(self, original: Sound) -> Inputs:
        """``{"frames": float16 [mels, length], "steps": int64 []}``."""
        frames, steps = middle((self.spectrogram(original) - self.mean) / self.std, self.length)
        return {"frames": frames.half(), "steps": torch.tensor(steps)}

    def spectrogram(self, sound: Sound) -> Tensor:
        """Log-mel frames float32 ``[mels, n]``, one for every 10 ms begun; channels are averaged. Raises UserError where there is no sample."""
        samples = resampled(np.asarray(sound.samples, np.float32), sound.rate, self.rate)
        if not len(samples):
            raise UserError("the sound has no sample")
        wave = torch.from_numpy(np.pad(samples, (self.points // 2, self.points // 2)))
        spectrum = torch.stft(wave, self.points, self.hop, self.window, torch.hann_window(self.window), center=False, return_complex=True)
        if self._filters is None:
            self._filters = torch.from_numpy(mel_filters(self.rate, self.points, self.mels)).float()
        power = self._filters @ (spectrum.abs().square() / (self.window / 2) ** 2)
        return (power + _QUIETEST).log()

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return collated(encoded)

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"spectrogram": float32 [B, mels, L], "steps": int64 [B]}``, zeros behind the end.

        ``plain``; ``weak``: moved by up to a tenth of the length and up to 6 dB louder or quieter; ``strong``: weak, then two spans of up to a quarter of the bands
        and two of up to a fifth of the frames at the mean (SpecAugment, arXiv 1904.08779, without its warping); ``masked``: ``ratio`` of the patches of ``patch``
        frames hidden in view ``base``, in runs of ``span`` patches.
        """
        if name not in self.views:
            raise UserError(f"sounds have no view '{name}': choose one of {', '.join(self.views)}")
        if name == "masked":
            return self._masked(raw, keys, **options)
        frames, steps = raw["frames"].float(), raw["steps"]
        if name != "plain":
            frames = shifted(frames, steps, keyed.fold(keys, "shift"), self.length // 10)  # type: ignore[arg-type]
            frames = frames + keyed.uniform(keyed.fold(keys, "gain"), (1, 1), -_LOUDER / self.std, _LOUDER / self.std)
        if name == "strong":
            bands = torch.full_like(steps, self.mels)
            for number in range(2):
                frames = frames.masked_fill(spans(keyed.fold(keys, "bands", number), bands, self.mels, 0.25).unsqueeze(2), 0.0)  # type: ignore[arg-type]
                frames = frames.masked_fill(spans(keyed.fold(keys, "moments", number), steps, self.length, 0.2).unsqueeze(1), 0.0)  # type: ignore[arg-type]
        return View(name, {"spectrogram": blank(frames, steps), "steps": steps}, keys)

    def pictured(self, view: View) -> list[np.ndarray]:
        """The spectrogram of every sample, low tones at the bottom, loud ones bright."""
        pictures = ((view.inputs["spectrogram"].flip(1) + 2.0) / 4.0).clamp(0, 1) * 255
        return list(pictures.round().to(torch.uint8).cpu().numpy())

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.5, patch: int = 4, span: int = 1, base: str = "plain") -> View:
        inputs = self.view(raw, base, keyed.fold(keys, "base")).inputs  # type: ignore[arg-type]
        eligible = there(inputs["steps"], self.length, patch)
        return View("masked", inputs, keys, hidden(keyed.fold(keys, "mask"), eligible, ratio, span))  # type: ignore[arg-type]


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """One channel, float32 ``[n]``, at ``wanted`` samples a second."""
    from scipy.signal import resample_poly

    samples = samples if samples.ndim == 1 else samples.mean(1)
    if rate == wanted or not len(samples):
        return samples
    divisor = math.gcd(rate, wanted)
    return resample_poly(samples, wanted // divisor, rate // divisor).astype(np.float32)


def mel_filters(rate: int, points: int, mels: int) -> np.ndarray:
    """Triangles ``[mels, points // 2 + 1]`` of height one, evenly spread from 0 Hz to half the ``rate`` on the scale 2595 log10(1 + f / 700)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, points // 2 + 1)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))
