"""What a language model would have said at a token, of a vocabulary of a hundred thousand and more.

Words are numbered by how often a teacher considers them, sorted, and only the gaps are kept, each in a number of bits that follows from where in the order it is: the
likely words stand close together at the beginning and the rare ones far apart. An order of the words costs nothing, since a set has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.labels import golomb
from understudy.labels.codecs import Codec, Fields, Layout, Values, as_numpy

MOST = 50
"""Words of a token, at most: with so many its length always fits into a byte."""
_VOCABULARY = 1 << 18
_SHIFTS = 4
"""How far below the logarithm of its place the order of a gap can be: 1 to so many, whichever is shortest for a token."""


def _table(spacing: float, widest: float, least: float) -> np.ndarray:
    """Probabilities from 1 down to ``least``: ``spacing`` apart in the angle whose squared sine they are, and nowhere more than ``widest`` in their logarithm."""
    levels, angle = [1.0], math.pi / 2
    while levels[-1] > least:
        angle = max(angle - spacing, 0.0)
        levels.append(max(math.sin(angle) ** 2, levels[-1] * math.exp(-widest)))
        angle = math.asin(math.sqrt(levels[-1]))
    return np.array(levels)


_LEVELS = _table(1 / 32, 1.4, math.exp(-16))
_EDGES = np.sqrt(_LEVELS[1:] * _LEVELS[:-1])[::-1]


class TokenCodec(Codec):
    """Words of a vocabulary and how probable each is."""

    ragged: ClassVar[bool] = True
    vocabulary: int
    frequent: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "frequent", tuple(int(word) for word in self.frequent))
        if not 2 <= self.vocabulary <= _VOCABULARY:
            raise UserError(f"token labels are of a vocabulary of 2 to {_VOCABULARY} words, not {self.vocabulary}.")
        if len(set(self.frequent)) != len(self.frequent) or any(not 0 <= word < self.vocabulary for word in self.frequent):
            raise UserError("the frequent words of token labels must be different words of the vocabulary.")

    def layout(self, classes: int) -> Layout:
        return {"content": (np.uint8, ()), "begin": (np.int64, ())}

    def _put_words(self, writer: golomb.Writer, ranks: np.ndarray, count: np.ndarray) -> None:
        """Sorted ranks ``[n, w]``, of which the first ``count`` are there."""
        previous = np.concatenate([np.full((len(ranks), 1), -1), ranks[:, :-1]], 1)
        there = np.arange(ranks.shape[1]) < count[:, None]
        gaps, place = np.where(there, ranks - previous - 1, 0), golomb.log2(np.where(there, previous, 0) + 2)
        costs = [np.where(there, golomb.bits(gaps, (place - shift).clip(0)), 0).sum(1) for shift in range(1, _SHIFTS + 1)]
        shift = np.argmin(costs, 0)
        writer.fixed(count, 6)
        writer.fixed(shift, 2)
        for i in range(ranks.shape[1]):
            writer.golomb(gaps[:, i], (place[:, i] - 1 - shift).clip(0), there[:, i])

    def _get_words(self, reader: golomb.Reader, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Words int64 ``[n, width]`` by rank, 0 where there is none; and bool ``[n, width]``, where there is one."""
        count, shift = reader.fixed(6), reader.fixed(2)
        words = np.zeros((len(count), width), np.int64)
        there = np.arange(width) < count[:, None]
        rank = np.full(len(count), -1)
        for i in range(int(count.max(initial=0))):
            order = (golomb.log2(rank + 2) - 1 - shift).clip(0)
            rank = np.where(there[:, i], rank + 1 + reader.golomb(order, there[:, i]), rank)
            words[:, i] = rank
        return _order(self.frequent, self.vocabulary)[0][words] * there, there


@dataclass(frozen=True)
class TokenTopK(TokenCodec):
    """The most probable words of a token, k at most: 54 bytes where it has 128,000 words (measured, not sure: it depends on the text).

    ``cut``: of the k words the least likely ones are left out that together have no more than this probability; 0 keeps all. A probability, as the squared sine of an
    angle, is rounded to steps of 1/32 of that angle, and below 0.004 to steps of a factor of 4; where the sum would exceed one, some are rounded down. Each is off by at most 0.032, and
    what the stored ones leave of one is the tail. Gaps of places and levels are written as exponential Golomb codes.
    """

    name: ClassVar[str] = "token-topk"
    vocabulary: int
    k: int = 50
    cut: float = 0.001
    frequent: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= min(MOST, self.vocabulary - 1) or not 0 <= self.cut < 1:
            raise UserError(f"token labels keep 1 to {MOST} words, fewer than there are, and cut less than all; got k={self.k} and cut={self.cut}.")

    def size(self, classes: int) -> int:
        """About, with its length."""
        return 4 + round(1.3 * self.k)

    def error(self) -> float:
        return float(np.max(_LEVELS[:-1] - _LEVELS[1:])) + self.cut

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``indices`` int ``[n, k]`` and ``probabilities`` ``[n, k]``, from most to least probable, which sum to at most one."""
        p, indices = as_numpy(values["probabilities"]).astype(np.float64), as_numpy(values["indices"]).astype(np.int64)
        if p.shape != indices.shape or p.ndim != 2 or p.shape[1] != self.k:
            raise UserError(
                f"the store expects {self.k} words and probabilities of every token, and the teacher gave the shapes {p.shape} and {indices.shape}."
            )
        if not np.isfinite(p).all() or (p < 0).any() or (p.sum(1) > 1.02).any():
            raise UserError("the teacher's token probabilities are not finite or sum to more than one: look at the teacher before storing its labels.")
        p /= p.sum(1, keepdims=True).clip(1.0)  # half precision may sum to a little more
        left = p[:, ::-1].cumsum(1)[:, ::-1]
        kept = (p > 0) & ((left > self.cut) | (np.arange(self.k) == 0))
        codes = _coded(np.where(kept, p, 0.0))
        ranks = np.where(kept, _order(self.frequent, self.vocabulary)[1][indices], _VOCABULARY)
        by_rank = np.argsort(ranks, 1, kind="stable")
        ranks, codes, count = np.take_along_axis(ranks, by_rank, 1), np.take_along_axis(codes, by_rank, 1), kept.sum(1)
        there = np.arange(self.k) < count[:, None]
        lowest = np.where(there, codes, 0).max(1)
        above = np.where(there, lowest[:, None] - codes, 0)
        order = np.argmin([np.where(there, golomb.bits(above, o), 0).sum(1) for o in range(4)], 0)
        writer = golomb.Writer(len(p), 255 * 8)
        self._put_words(writer, ranks, count)
        writer.fixed(lowest, 6)
        writer.fixed(order, 2)
        for i in range(self.k):
            writer.golomb(above[:, i], order, there[:, i])
        content, lengths = writer.finish()
        return {"content": content, "lengths": lengths.astype(np.uint8)}

    def unpack(self, fields: Fields) -> Values:
        """``indices`` int64 ``[n, k]`` and ``probabilities`` float32 ``[n, k]`` in any order, 0 in empty places, and ``tail`` float32 ``[n]``."""
        reader = _reader(fields)
        words, there = self._get_words(reader, self.k)
        lowest, order = reader.fixed(6), reader.fixed(2)
        codes = np.zeros(words.shape, np.int64)
        for i in range(int(there.sum(1).max(initial=0))):
            codes[:, i] = lowest - reader.golomb(order, there[:, i])
        p = np.where(there, _LEVELS[codes.clip(0, len(_LEVELS) - 1)], 0.0)
        tail = (1 - p.sum(1)).clip(0.0)
        return {"indices": torch.from_numpy(words), "probabilities": torch.from_numpy(p.astype(np.float32)), "tail": torch.from_numpy(tail.astype(np.float32))}


@dataclass(frozen=True)
class TokenDraws(TokenCodec):
    """Words that were drawn from the teacher's distribution, and how often each (random sampling knowledge distillation, 2503.16870, section 3).

    The share of a word among the draws is an unbiased estimate of its probability, of variance p (1 - p) / draws: the gradient of the student's cross-entropy is, on
    average, that of the whole distribution. Top-k labels have no such promise, whatever k is.
    """

    name: ClassVar[str] = "token-draws"
    vocabulary: int
    draws: int = 50
    frequent: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.draws <= MOST:
            raise UserError(f"token labels keep 1 to {MOST} draws, not {self.draws}.")

    def size(self, classes: int) -> int:
        """About, with its length."""
        return 3 + round(0.5 * self.draws)

    def error(self) -> float:
        """Nothing is rounded: what was drawn is what is read."""
        return 0.0

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``drawn`` int ``[n, draws]``."""
        drawn = as_numpy(values["drawn"]).astype(np.int64)
        if drawn.ndim != 2 or drawn.shape[1] != self.draws or ((drawn < 0) | (drawn >= self.vocabulary)).any():
            raise UserError(f"the store expects {self.draws} words of the vocabulary for every token, and the teacher gave the shape {list(drawn.shape)}.")
        ranks = np.sort(_order(self.frequent, self.vocabulary)[1][drawn], 1)
        fresh = np.concatenate([np.ones((len(ranks), 1), bool), ranks[:, 1:] != ranks[:, :-1]], 1)
        count, group = fresh.sum(1), fresh.cumsum(1) - 1
        row = np.arange(len(ranks))[:, None]
        different, often = np.zeros_like(ranks), np.zeros_like(ranks)
        different[row, group] = ranks
        np.add.at(often, (np.broadcast_to(row, group.shape), group), 1)
        writer = golomb.Writer(len(ranks), 255 * 8)
        self._put_words(writer, different, count)
        for i in range(self.draws):
            writer.golomb((often[:, i] - 1).clip(0), np.zeros(len(ranks), np.int64), i < count)
        content, lengths = writer.finish()
        return {"content": content, "lengths": lengths.astype(np.uint8)}

    def unpack(self, fields: Fields) -> Values:
        """``indices`` int64 ``[n, draws]`` and ``probabilities`` float32 ``[n, draws]``, shares of the draws, 0 in empty places; ``tail`` float32 ``[n]``, zero."""
        reader = _reader(fields)
        words, there = self._get_words(reader, self.draws)
        often = np.zeros(words.shape, np.int64)
        for i in range(int(there.sum(1).max(initial=0))):
            often[:, i] = 1 + reader.golomb(np.zeros(len(words), np.int64), there[:, i])
        shares = (often * there / self.draws).astype(np.float32)
        return {"indices": torch.from_numpy(words), "probabilities": torch.from_numpy(shares), "tail": torch.zeros(len(words))}


def _coded(p: np.ndarray) -> np.ndarray:
    """The level nearest to each probability; some of a row one lower, the ones that were raised most first, as many as it takes to have a sum of at most one."""
    codes = len(_EDGES) - np.searchsorted(_EDGES, p)
    excess = np.where(p > 0, _LEVELS[codes], 0.0).sum(1) - 1.0
    raised = np.where(p > 0, _LEVELS[codes] - p, -1.0)
    order = np.argsort(-raised, 1, kind="stable")
    drop = np.where(p > 0, _LEVELS[codes] - _LEVELS[np.minimum(codes + 1, len(_LEVELS) - 1)], 0.0)
    before = np.take_along_axis(drop, order, 1).cumsum(1) - np.take_along_axis(drop, order, 1)
    lowered = np.zeros(codes.shape, bool)
    np.put_along_axis(lowered, order, before < excess[:, None], 1)
    return np.minimum(codes + lowered, len(_LEVELS) - 1)


@lru_cache(maxsize=8)
def _order(frequent: tuple[int, ...], vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """The word at each rank, frequent ones first and the others by number, and the rank of each word."""
    first = np.array(frequent, np.int64)
    words = np.concatenate([first, np.setdiff1d(np.arange(vocabulary), first)])
    ranks = np.empty(vocabulary, np.int64)
    ranks[words] = np.arange(vocabulary)
    return words, ranks


def _reader(fields: Fields) -> golomb.Reader:
    if "begin" in fields:
        return golomb.Reader(fields["content"], fields["begin"])
    ends = np.cumsum(fields["lengths"], dtype=np.int64)
    return golomb.Reader(np.append(fields["content"], np.zeros(8, np.uint8)), ends - fields["lengths"])
