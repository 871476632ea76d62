"""Pairs of texts: one text for whoever reads both together, two for whoever reads them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.text import TextModality
from understudy.data.samples import Encoded, Inputs, Samples, View
from understudy.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Pair(NamedTuple):
    """Two texts that belong together, or do not."""

    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.first}\n{self.second}"


class TextPairModality(TextModality):
    """Two texts a sample, each of at most half of ``length`` tokens.

    A pair is a text like any other: its view ``plain``, and ``weak``, ``strong`` and ``masked`` with it, are both texts one after the other, as a cross-encoder reads
    them, so every model and every system of texts takes pairs. ``turned`` is the same in either order, drawn from the key. ``first`` and ``second`` are
    the texts alone, as a bi-encoder reads them.
    """

    noun = "pairs of texts"
    views: tuple[str, ...] = (*TextModality.views, "turned", "first", "second")

    def __init__(self, tokenizer: Tokenizer, length: int = 128, special: Iterable[int] | None = None, pad: int | None = None, mask: int | None = None):
        # Where a text is cut is part of a tokenizer's state, so each way of reading has one of its own.
        own, single = (type(tokenizer).from_str(tokenizer.to_str()) for _ in range(2))
        self.alone = TextModality(single, length, special, pad, mask)
        """How a single text is read, with as many places."""
        super().__init__(own, length, special, pad, mask)
        opening = own.encode("a").special_tokens_mask
        self.opening = opening.index(0) if 0 in opening else 0
        """Tokens that open a text, such as [CLS]; the second text of a joined pair goes without."""
        own.enable_truncation(max(1 + own.num_special_tokens_to_add(False), length // 2))

    def signature(self) -> dict[str, Any]:
        return {**super().signature(), "pair": True}

    def encode(self, original: Sequence[str]) -> Inputs:  # type: ignore[override]
        """``{"tokens": int64 [L], "length": int64 [], "first": int64 []}``: both texts, each with its special tokens, and how many tokens are the first's."""
        first, second = (self.tokenizer.encode(text).ids for text in original)
        tokens = torch.tensor([*first, *second], dtype=torch.int64)
        return {"tokens": tokens, "length": torch.tensor(len(tokens)), "first": torch.tensor(len(first))}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {**super().collate(encoded), "first": torch.stack([e["first"] for e in encoded])}

    def examples(self, count: int) -> Inputs:
        return self.collate([self.encode(("a " * (i % 3 + 1), "b")) for i in range(count)])

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """As of texts, of both in one; ``first`` and ``second`` take the option ``base``, the view of that text."""
        match name:
            case "first" | "second":
                seen = self.alone.view(self.part(raw, name == "second"), options.pop("base", "plain"), keys, **options)
                return View(name, seen.inputs, seen.keys, seen.masked, seen.most)
            case "turned":
                turned = torch.as_tensor(keyed.bernoulli(keyed.fold(keys, "turned"), 0.5))
                return View(name, self.alone.view(self._joined(raw, turned), "plain", keys, **options).inputs, keys)
            case _ if name in self.views:
                return self.alone.view(self._joined(raw), name, keys, **options)
            case _:
                raise UserError(f"pairs of texts have no view '{name}': choose one of {', '.join(self.views)}")

    def part(self, raw: Inputs, second: bool) -> Inputs:
        """One text of every pair as a raw batch of texts, of the width of ``raw``."""
        tokens, length = raw["tokens"], raw["length"] - raw["first"] if second else raw["first"]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        if second:
            tokens = tokens.gather(1, (place + raw["first"].unsqueeze(1)).clamp_max(tokens.shape[1] - 1))
        return {"tokens": tokens.masked_fill(place >= length.unsqueeze(1), self.pad), "length": length}

    def _joined(self, raw: Inputs, turned: Tensor | None = None) -> Inputs:
        """Both texts as one, the second without its opening; ``turned`` bool ``[B]`` says where the other text comes first."""
        a, b = self.part(raw, False), self.part(raw, True)
        if turned is not None:
            a, b = ({n: torch.where(turned.unsqueeze(1) if n == "tokens" else turned, q[n], p[n]) for n in p} for p, q in ((a, b), (b, a)))
        width = raw["tokens"].shape[1]
        place = torch.arange(width, device=a["tokens"].device).expand(len(a["tokens"]), width)
        later = place - a["length"].unsqueeze(1) + self.opening
        tokens = torch.where(later < self.opening, a["tokens"], b["tokens"].gather(1, later.clamp(0, width - 1)))
        length = a["length"] + b["length"] - self.opening
        shown = max(1, width - self.opening)
        return {"tokens": tokens.masked_fill(place >= length.unsqueeze(1), self.pad)[:, :shown], "length": length}


class Parts:
    """Encoded pairs as twice as many texts: those of pair i are 2i and 2i + 1."""

    def __init__(self, pairs: Encoded, modality: TextPairModality):
        self.pairs, self.modality = pairs, modality

    def __len__(self) -> int:
        return 2 * len(self.pairs)

    def raw(self, indices: Tensor) -> Inputs:
        raw = self.pairs.raw(indices // 2)
        a, b = self.modality.part(raw, False), self.modality.part(raw, True)
        second = indices % 2 == 1
        length = torch.where(second, b["length"], a["length"])
        most = max(1, int(length.max())) if len(length) else 1
        return {"tokens": torch.where(second.unsqueeze(1), b["tokens"], a["tokens"])[:, :most], "length": length}

    def original(self, index: int) -> str:
        return str(self.pairs.original(index // 2)[index % 2])


def texts_of(samples: Samples) -> Samples:
    """The texts of pairs one by one, without labels. Raises UserError where the samples are no pairs."""
    modality = samples.modality
    if not isinstance(modality, TextPairModality):
        raise UserError("these samples are no pairs of texts; name both columns, as in --text-column first,second")
    ids = tuple(f"{name}/{which}" for name in samples.ids for which in ("first", "second"))
    positions = (2 * samples.positions.unsqueeze(1) + torch.arange(2)).flatten()
    return Samples(modality.alone, Parts(samples.encoded, modality), ids, torch.full((len(ids),), -1), (), positions)
