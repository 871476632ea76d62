"""Tables: rows of numbers and categories, and views that swap cells with other values of their column."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.masking import hide
from understudy.data.samples import Inputs, View
from understudy.errors import UserError

Kind = Literal["number", "category"]
QUANTILES = 64


@dataclass(frozen=True)
class Number:
    """A numeric column: encoded as (value - mean) / std, both of the values clipped to their 1st and 99th percentile."""

    name: str
    mean: float
    std: float
    quantiles: tuple[float, ...]
    """Standardised values that were seen, evenly spread over the distribution."""


@dataclass(frozen=True)
class Category:
    """A column of names: the n-th of ``vocabulary`` is encoded as n + 1, everything else as 0."""

    name: str
    vocabulary: tuple[str, ...]
    frequencies: tuple[float, ...]
    """Share of every name among the rows that had one of them; sums to 1."""


class TableModality:
    """Rows of named columns; numbers first, then categories, each in the order given."""

    name = "table"
    noun = "rows"
    views: tuple[str, ...] = ("plain", "weak", "strong", "masked")

    def __init__(self, numbers: Sequence[Number], categories: Sequence[Category]):
        if not numbers and not categories:
            raise UserError("a table needs at least one column besides labels and ids")
        self.numbers, self.categories = tuple(numbers), tuple(categories)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.names = (*(column.name for column in self.numbers), *(column.name for column in self.categories))

    @classmethod
    def fit(cls, columns: Mapping[str, Any], kinds: Mapping[str, Kind] | None = None, most: int = 1000) -> TableModality:
        """Describe ``columns`` (numpy or pyarrow arrays, or lists).

        ``kinds`` says which are numbers and which categories; columns left out are numbers where their type is numeric, without booleans.
        A category keeps its ``most`` frequent names.
        """
        kinds = {name: (kinds or {}).get(name) or _kind(column) for name, column in columns.items()}
        numbers: list[Number] = []
        categories: list[Category] = []
        for name, column in columns.items():
            if kinds[name] == "number":
                numbers.append(_fit_number(name, _as_numbers(name, column)))
            else:
                counts = Counter(text for text in _as_texts(column) if text is not None)
                kept = sorted(sorted(counts), key=lambda text: -counts[text])[:most]
                total = sum(counts[text] for text in kept)
                categories.append(Category(name, tuple(kept), tuple(counts[text] / total for text in kept)))
        return cls(numbers, categories)

    def signature(self) -> dict[str, Any]:
        def plain(column: Number | Category) -> dict[str, Any]:
            return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(column).items()}

        return {"name": self.name, "numbers": [plain(c) for c in self.numbers], "categories": [plain(c) for c in self.categories]}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None = None) -> TableModality:
        numbers = [Number(c["name"], c["mean"], c["std"], tuple(c["quantiles"])) for c in signature["numbers"]]
        return cls(numbers, [Category(c["name"], tuple(c["vocabulary"]), tuple(c["frequencies"])) for c in signature["categories"]])

    def shape(self) -> dict[str, Any]:
        return {"numbers": len(self.numbers), "categories": [len(c.vocabulary) + 1 for c in self.categories]}

    def examples(self, count: int) -> Inputs:
        keys = torch.as_tensor(keyed.fold(keyed.fold(0, "example"), torch.arange(count)))
        sizes = torch.tensor([len(c.vocabulary) + 1 for c in self.categories], dtype=torch.int64)
        return {
            "numbers": keyed.normal(keys, (len(self.numbers),)),
            "categories": (keyed.uniform(keyed.fold(keys, "categories"), (len(sizes),)) * sizes).long(),
        }

    def encode(self, original: Mapping[str, Any]) -> Inputs:
        """One row: ``{"numbers": float32 [n], "categories": int64 [m]}``. A cell that is absent or None is missing; UserError for text in a numeric column."""
        row = {name: [original.get(name)] for name in self.names}
        return {name: tensor.squeeze(0) for name, tensor in self.encode_columns(row).items()}

    def encode_columns(self, columns: Mapping[str, Any]) -> Inputs:
        """All rows at once (numpy or pyarrow arrays, or lists): ``{"numbers": float32 [N, n], NaN = missing, "categories": int64 [N, m], 0 = missing}``."""
        absent = [name for name in self.names if name not in columns]
        if absent:
            raise UserError(f"the table has no column '{absent[0]}', which it had when the modality was fitted: it has {', '.join(columns)}")
        rows = len(next(iter(columns.values())))
        numbers, categories = np.empty((rows, len(self.numbers)), np.float32), np.zeros((rows, len(self.categories)), np.int64)
        for i, number in enumerate(self.numbers):
            numbers[:, i] = (_as_numbers(number.name, columns[number.name]) - number.mean) / number.std
        for i, category in enumerate(self.categories):
            code: dict[str | None, int] = {text: n + 1 for n, text in enumerate(category.vocabulary)}
            categories[:, i] = [code.get(text, 0) for text in _as_texts(columns[category.name])]
        return {"numbers": torch.from_numpy(numbers), "categories": torch.from_numpy(categories)}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {name: torch.stack([e[name] for e in encoded]) for name in ("numbers", "categories")}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"numbers": float32 [B, n], "absent": bool [B, n], "categories": int64 [B, m]}``, missing numbers as 0.

        ``plain``; ``weak``: noise of 0.1 standard deviations and 5 % of the cells missing; ``strong``: ``rate`` of the cells swapped with another
        value of their column as in SCARF (arXiv 2106.15147, algorithm 1), drawn from the marginals of the fit so that no other row of the batch
        matters, and 10 % missing; ``masked``: ``ratio`` of the cells that are there hidden in view ``base``; positions are numbers, then categories.
        """
        numbers, categories = raw["numbers"], raw["categories"]
        match name:
            case "masked":
                return self._masked(raw, keys, **options)
            case "plain":
                pass
            case "weak":
                numbers = numbers + keyed.normal(keyed.fold(keys, "noise"), numbers.shape[1:]) * 0.1
                numbers, categories = self._dropped(numbers, categories, keys, 0.05, **options)
            case "strong":
                numbers, categories = self._swapped(numbers, categories, keys, **options)
                numbers, categories = self._dropped(numbers, categories, keys, 0.1)
            case _:
                raise UserError(f"tables have no view '{name}': choose one of {', '.join(self.views)}")
        absent = numbers.isnan()
        return View(name, {"numbers": numbers.masked_fill(absent, 0.0), "absent": absent, "categories": categories}, keys)

    def _dropped(self, numbers: Tensor, categories: Tensor, keys: Tensor, probability: float) -> tuple[Tensor, Tensor]:
        n = numbers.shape[1]
        gone = keyed.bernoulli(keyed.fold(keys, "drop"), probability, (n + categories.shape[1],))
        return numbers.masked_fill(gone[:, :n], torch.nan), categories.masked_fill(gone[:, n:], 0)

    def _swapped(self, numbers: Tensor, categories: Tensor, keys: Tensor, rate: float = 0.3) -> tuple[Tensor, Tensor]:
        """Missing cells stay missing."""
        n = numbers.shape[1]
        swap = keyed.bernoulli(keyed.fold(keys, "swap"), rate, (n + categories.shape[1],))
        quantiles, cumulative = self._marginals(numbers.device)
        place = keyed.integers(keyed.fold(keys, "quantile"), QUANTILES, (n,))
        drawn = quantiles[torch.arange(n, device=keys.device), place]
        numbers = torch.where(swap[:, :n] & ~numbers.isnan(), drawn, numbers)
        u = keyed.uniform(keyed.fold(keys, "category"), (categories.shape[1],))
        other = torch.searchsorted(cumulative, u.t().contiguous(), right=True).t() + 1
        return numbers, torch.where(swap[:, n:] & (categories > 0), other, categories)

    def _marginals(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Quantiles of the numbers ``[n, QUANTILES]`` and cumulative frequencies of the categories ``[m, names]``, the last of each filled up with 1."""
        if device in self._on:
            return self._on[device]
        quantiles = torch.tensor([c.quantiles for c in self.numbers], dtype=torch.float32).reshape(-1, QUANTILES)
        cumulative = torch.ones(len(self.categories), max((len(c.vocabulary) for c in self.categories), default=1))
        for row, category in zip(cumulative, self.categories, strict=True):
            if category.frequencies:
                row[: len(category.frequencies) - 1] = torch.tensor(category.frequencies, dtype=torch.float64).cumsum(0)[:-1].to(torch.float32)
        self._on[device] = quantiles.to(device), cumulative.to(device)
        return self._on[device]

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.3, base: str = "plain", **options: Any) -> View:
        inputs = self.view(raw, base, keyed.fold(keys, "base"), **options).inputs  # type: ignore[arg-type]
        there = torch.cat([~inputs["absent"], inputs["categories"] > 0], 1)
        return View("masked", inputs, keys, hide(keyed.fold(keys, "mask"), there, ratio))  # type: ignore[arg-type]


def _fit_number(name: str, values: np.ndarray) -> Number:
    values = values[~np.isnan(values)]
    if not len(values):
        return Number(name, 0.0, 1.0, (0.0,) * QUANTILES)
    clipped = values.clip(*np.quantile(values, (0.01, 0.99)))
    mean, std = float(clipped.mean()), float(clipped.std() or values.std() or 1.0)
    quantiles = np.quantile((values - mean) / std, (np.arange(QUANTILES) + 0.5) / QUANTILES, method="inverted_cdf")
    return Number(name, mean, std, tuple(quantiles.tolist()))


def _kind(column: Any) -> Kind:
    values = np.asarray(column)
    if values.dtype == object:
        values = np.asarray([value for value in values if value is not None])
    return "number" if values.dtype.kind in "iuf" else "category"


def _as_numbers(name: str, column: Any) -> np.ndarray:
    """float64 with NaN for None, NaN and infinities."""
    values = np.asarray(column)
    if values.dtype.kind not in "iufb":
        parsed = np.empty(len(values))
        for i, value in enumerate(values.tolist()):
            try:
                parsed[i] = np.nan if value is None else float(value)
            except (TypeError, ValueError) as error:
                raise UserError(f"column '{name}' holds numbers, but row {i} has {value!r}: correct it, or declare the column a category") from error
        values = parsed
    values = values.astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _as_texts(column: Any) -> list[str | None]:
    """The cells as names; None for None, NaN and empty ones. 3 and 3.0 are one name, since a missing cell makes integers float."""

    def text(value: Any) -> str | None:
        if isinstance(value, float):
            return None if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
        return None if value is None or value == "" else str(value)

    return [text(value) for value in (column.to_pylist() if hasattr(column, "to_pylist") else np.asarray(column, dtype=object).tolist())]
