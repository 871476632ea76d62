"""Series: several channels over time, each standardised over the training data; views that shift, scale and leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.timeline import blank, collated, drawn, hidden, middle, shifted, spans, there
from understudy.data.samples import Inputs, View
from understudy.errors import UserError


class SeriesModality:
    """Series of named channels, at most ``length`` steps of which are seen: the middle of longer ones. ``means`` and ``stds`` of each channel standardise it."""

    name = "series"
    noun = "series"
    views: tuple[str, ...] = ("plain", "weak", "strong", "masked")

    def __init__(self, channels: Sequence[str], length: int, means: Sequence[float] | None = None, stds: Sequence[float] | None = None):
        if not channels or length < 2:
            raise UserError(f"a series needs a channel and at least two steps, got {len(channels)} channels and a length of {length}")
        self.channels, self.length = tuple(channels), length
        self.means = tuple(means or [0.0] * len(channels))
        self.stds = tuple(stds or [1.0] * len(channels))

    @classmethod
    def fit(cls, channels: Sequence[str], series: Sequence[np.ndarray], length: int) -> SeriesModality:
        """``series``: arrays ``[C, n]``, NaN where a value is missing."""
        means, stds = [], []
        for channel in range(len(channels)):
            values = np.concatenate([one[channel] for one in series]) if series else np.empty(0)
            values = values[np.isfinite(values)].astype(np.float64)
            means.append(float(values.mean()) if len(values) else 0.0)
            stds.append(float(values.std() or 1.0) if len(values) else 1.0)
        return cls(channels, length, means, stds)

    def signature(self) -> dict[str, Any]:
        return {"name": self.name, "channels": list(self.channels), "length": self.length, "means": list(self.means), "stds": list(self.stds)}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None = None) -> SeriesModality:
        return cls(signature["channels"], signature["length"], signature["means"], signature["stds"])

    def shape(self) -> dict[str, Any]:
        return {"channels": len(self.channels), "length": self.length}

    def examples(self, count: int) -> Inputs:
        keys = torch.as_tensor(keyed.fold(keyed.fold(0, "example"), torch.arange(count)))
        steps = self.length - torch.arange(count) % 2
        return {"series": blank(keyed.normal(keys, (len(self.channels), self.length)), steps), "steps": steps}

    def encode(self, original: Any) -> Inputs:
        """``{"series": float32 [C, length], "steps": int64 []}`` of an array ``[C, n]``; a missing value repeats the last one before it, or else the first after it.

        Raises UserError for another number of channels, and where there is no value at all.
        """
        values = np.array(original, dtype=np.float64, ndmin=2)
        if values.ndim != 2 or len(values) != len(self.channels):
            raise UserError(f"a series of shape {'x'.join(map(str, values.shape))} has not the {len(self.channels)} channels {', '.join(self.channels[:6])}")
        if not np.isfinite(values).any():
            raise UserError("the series holds no number")
        values = (filled(values) - np.array(self.means)[:, None]) / np.array(self.stds)[:, None]
        series, steps = middle(torch.from_numpy(np.nan_to_num(values)).float(), self.length)
        return {"series": series, "steps": torch.tensor(steps)}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return collated(encoded)

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"series": float32 [B, C, L], "steps": int64 [B]}``, zeros behind the end.

        ``plain``; ``weak``: moved by up to a tenth of the length, scaled by 0.9 to 1.1 and with noise of 0.05 standard deviations; ``strong``: weak, scaled by 0.7 to 1.3
        and with noise of 0.1, and two spans of up to a fifth of the steps and one in ten channels left out; ``masked``: ``ratio`` of the patches of ``patch`` steps
        of each channel hidden in view ``base``, in runs of ``span`` patches; positions are all patches of the first channel, then of the second.
        """
        if name not in self.views:
            raise UserError(f"series have no view '{name}': choose one of {', '.join(self.views)}")
        if name == "masked":
            return self._masked(raw, keys, **options)
        series, steps = raw["series"], raw["steps"]
        if name != "plain":
            series = self._altered(series, steps, keys, *((0.1, 0.05) if name == "weak" else (0.3, 0.1)))
        if name == "strong":
            for number in range(2):
                series = series.masked_fill(spans(keyed.fold(keys, "span", number), steps, self.length, 0.2).unsqueeze(1), 0.0)  # type: ignore[arg-type]
            gone = keyed.bernoulli(keyed.fold(keys, "channels"), 0.1, (len(self.channels), 1))
            series = series.masked_fill(gone & (len(self.channels) > 1), 0.0)
        return View(name, {"series": series, "steps": steps}, keys)

    def pictured(self, view: View) -> list[np.ndarray]:
        """The curves of every sample."""
        return [drawn(series, int(steps)) for series, steps in zip(view.inputs["series"], view.inputs["steps"], strict=True)]

    def _altered(self, series: Tensor, steps: Tensor, keys: Tensor, gain: float, noise: float) -> Tensor:
        series = shifted(series, steps, keyed.fold(keys, "shift"), self.length // 10)  # type: ignore[arg-type]
        series = series * keyed.uniform(keyed.fold(keys, "gain"), (len(self.channels), 1), 1.0 - gain, 1.0 + gain)
        return blank(series + keyed.normal(keyed.fold(keys, "noise"), series.shape[1:]) * noise, steps)

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.4, patch: int = 1, span: int = 1, base: str = "plain") -> View:
        inputs = self.view(raw, base, keyed.fold(keys, "base")).inputs  # type: ignore[arg-type]
        eligible = there(inputs["steps"], self.length, patch)
        parts = [hidden(keyed.fold(keys, "mask", channel), eligible, ratio, span) for channel in range(len(self.channels))]  # type: ignore[arg-type]
        return View("masked", inputs, keys, torch.cat(parts, 1))


def filled(values: np.ndarray) -> np.ndarray:
    """``[C, n]`` with each missing value replaced by the last one before it, or the first after it; a channel without any stays as it is."""
    known = np.isfinite(values)
    place = np.where(known, np.arange(values.shape[1]), -1)
    last = np.maximum.accumulate(place, 1)
    first = known.argmax(1)[:, None]
    return np.take_along_axis(values, np.where(last < 0, first, last), 1)
