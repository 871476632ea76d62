"""Columns of prompts and answers."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from understudy.data.folder import shown
from understudy.data.modalities.generation import Exchange, GenerationModality
from understudy.data.problems import ANSWERED
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, InMemory, Modality
from understudy.errors import UserError

LONGEST = 256
"""Tokens: with more, the built-in student needs longer than minutes on two CPU cores."""
_LETTERS = 128
"""With at most so many different characters every character is a token; with more, pairs are learned."""
_VOCABULARY = 4000


class Prompts:
    """A column of prompts, and one of their answers, where there is one."""

    kind = "generation"

    def __init__(self, table: pa.Table, prompt: str, answer: str, where: Sequence[str], path: Path):
        for name in {prompt, answer} & set(table.column_names):
            kind = table.schema.field(name).type
            if pa.types.is_nested(kind) or pa.types.is_binary(kind):
                raise UserError(f"column {name!r} of {shown(path)} holds {kind} instead of text: name a column of texts")
        said = table.column(answer).to_pylist() if answer in table.column_names else [None] * table.num_rows
        asked = table.column(prompt).to_pylist()
        self.exchanges = [Exchange("" if p is None else str(p), None if a is None else str(a)) for p, a in zip(asked, said, strict=True)]
        self.where = where
        self.tokens: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.exchanges)

    @property
    def labels(self) -> list[str | None]:
        """``answered`` where the answer is known."""
        return [None if exchange.answer is None else ANSWERED[0] for exchange in self.exchanges]

    def look(self) -> None:
        """Nothing that ``fit`` does not find out."""

    def fit(self, size: int | None, seed: int) -> Modality:
        """Characters, or byte pairs learned from these texts; long enough for the longest prompt, its answer and half as much again, at most ``size`` (``LONGEST``)."""
        texts = [exchange.prompt + (exchange.answer or "") for exchange in self.exchanges]
        letters = {letter for text in texts for letter in text}
        whole = GenerationModality.characters([*letters], 1 << 20) if len(letters) <= _LETTERS else GenerationModality.train(texts, _VOCABULARY, 1 << 20)
        most = max(len(whole.encode(exchange)["tokens"]) for exchange in self.exchanges)
        self.tokens = {"greatest": most, "vocabulary": whole.vocabulary}
        return GenerationModality(whole.tokenizer, min(size or LONGEST, 8 * math.ceil(1.5 * most / 8)), whole.end, whole.pad, whole.start)

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        kept = []
        for i, exchange in enumerate(self.exchanges):
            if exchange.prompt.strip():
                kept.append(i)
            else:
                quarantine.add(self.where[i], "the prompt is empty")
        exchanges = [self.exchanges[i] for i in kept]
        encoded = InMemory(modality.collate([modality.encode(exchange) for exchange in exchanges]) if exchanges else {}, exchanges)
        return encoded, kept, [_digest(exchange.prompt) for exchange in exchanges]

    def facts(self) -> dict[str, object]:
        return {"tokens": self.tokens}

    def describe(self) -> list[str]:
        if not self.tokens:
            return []
        return [f"The longest prompt with its answer has {self.tokens['greatest']:,} tokens; there are {self.tokens['vocabulary']:,} different ones."]


def _digest(prompt: str) -> bytes:
    return hashlib.blake2b(unicodedata.normalize("NFC", " ".join(prompt.split())).encode("utf-8", "surrogatepass"), digest_size=16).digest()
