"""Two columns of texts whose rows are pairs."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from understudy.data.folder import shown
from understudy.data.modalities.text import TextModality
from understudy.data.modalities.text_pair import Pair, TextPairModality
from understudy.data.quarantine import Quarantine
from understudy.data.rows import LONGEST, Texts, Tokens, digest
from understudy.data.samples import Encoded, Inputs, Modality
from understudy.errors import UserError


class PairTokens(Tokens):
    """Pairs of token sequences in memory."""

    def __init__(self, encoded: Sequence[Inputs], originals: Sequence[Pair], modality: Modality):
        super().__init__(encoded, originals, modality)  # type: ignore[arg-type]
        self.firsts = torch.tensor([int(e["first"]) for e in encoded], dtype=torch.int64)

    def raw(self, indices: Tensor) -> Inputs:
        pieces = [(int(self.ends[i] - self.lengths[i]), int(self.ends[i])) for i in indices.tolist()]
        return self.modality.collate(
            [
                {"tokens": self.tokens[a:b].long(), "length": torch.tensor(b - a), "first": first}
                for (a, b), first in zip(pieces, self.firsts[indices], strict=True)
            ]
        )


class Pairs:
    """Two columns of texts."""

    kind = "text"

    def __init__(self, columns: Sequence[pa.ChunkedArray], where: Sequence[str], names: Sequence[str], path: Path):
        if len(names) != 2 or names[0] == names[1]:
            raise UserError(f"a pair of texts stands in two columns of {shown(path)}, and --text-column names {len(set(names))}: give two, as in first,second")
        self.first, self.second = (Texts(column, where, name, path) for column, name in zip(columns, names, strict=True))
        self.names, self.where, self.path = tuple(names), where, path
        self.both = copy.copy(self.first)
        self.both.texts = [*self.first.texts, *self.second.texts]

    def __len__(self) -> int:
        return len(self.first)

    def look(self) -> None:
        self.both.look()

    def fit(self, size: int | None, seed: int) -> Modality:
        """A tokenizer learnt from the texts of both columns, and room for twice what 95 % of them need, at most ``size`` (``LONGEST``) tokens."""
        alone = self.both.fit(None, seed)
        assert isinstance(alone, TextModality)
        return TextPairModality(alone.tokenizer, min(size or LONGEST, 2 * alone.length))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        if not isinstance(modality, TextPairModality):
            raise UserError(f"the model reads single texts, and --text-column names two columns of {shown(self.path)}: name one")
        pairs, kept = [Pair(a, b) for a, b in zip(self.first.texts, self.second.texts, strict=True)], []
        for i, pair in enumerate(pairs):
            empty = [name for name, text in zip(self.names, pair, strict=True) if not text.strip()]
            if empty:
                quarantine.add(self.where[i], f"the text in {' and in '.join(empty)} is empty")
            else:
                kept.append(i)
        pairs = [pairs[i] for i in kept]
        digests = [digest("\0".join(unicodedata.normalize("NFC", " ".join(text.split())) for text in pair)) for pair in pairs]
        return PairTokens([modality.encode(pair) for pair in pairs], pairs, modality), kept, digests

    def facts(self) -> dict[str, object]:
        return {"pair": list(self.names), **self.both.facts()}

    def describe(self) -> list[str]:
        return [f"A sample is a pair of texts, {self.names[0]} and {self.names[1]}.", *self.both.describe()]
