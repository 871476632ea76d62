"""The k most probable of a few thousand classes, bit by bit: FKD's five of 1,000 classes (2112.01528) in 11 bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.labels.codecs import Codec, Fields, Layout, Tail, Values, rows_of, spread

_LEVELS = 193
"""Codes of one number: the largest base whose fifth power fits into the 38 bits that five class numbers below 1,024 leave of 11 bytes."""
_REACH = 10.0
"""Nats below the first class at which a probability is still told from zero."""
_STEP = _REACH / (_LEVELS - 2)
_NONE = _LEVELS - 1
"""Highest code: of a ratio, zero; of the tail, that nobody answered."""
_BLOCK = 16384
"""Labels unpacked at once: what is at work stays in the processor's cache."""

_RATIOS = np.append(np.exp(-_STEP * np.arange(_LEVELS - 1)), 0.0).astype(np.float32)
_TAILS = np.append(np.sin(np.arange(_LEVELS - 1) * np.pi / 2 / _NONE) ** 2, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Packed(Codec):
    """k class numbers of ceil(log2 C) bits each, and k numbers of 193 steps each.

    The first of these is the tail, as the angle arcsin sqrt(tail), whose error is at most pi / 768 anywhere. The others are the logarithms of the first class's
    probability over those of the second to k-th, rounded to a grid of 0.052 nats up to 10. Read back, each probability is off by at most 0.018:
    pi / 768 + tanh(0.052 / 4) + k exp(-10); each ratio between stored classes is right within 5.4 %. It holds what 64 bits hold of class numbers:
    k = 5 of up to 4,096 classes, k = 8 of up to 256.
    """

    name: ClassVar[str] = "packed"
    k: int = 5

    @staticmethod
    def holds(k: int, classes: int) -> bool:
        """Whether ``k`` of so many classes can be stored."""
        return 1 <= k < classes and k <= 8 and k * _bits(classes) <= 64

    def layout(self, classes: int) -> Layout:
        if not self.holds(self.k, classes):
            raise UserError(
                f"packed labels hold k * log2(classes) bits up to 64 with k below 9 and below the classes; k={self.k} of {classes} does not: use topk."
            )
        return {"packed": (np.uint8, (-(-(self.k * _bits(classes) + _code_bits(self.k)) // 8),))}

    def error(self) -> float:
        return math.pi / 4 / _NONE + math.tanh(_STEP / 4) + self.k * math.exp(-_REACH)

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``probabilities`` ``[B, C]``."""
        width = self.layout(classes)["packed"][1][0]
        probabilities = rows_of(values, "probabilities", classes)
        indices = np.argpartition(-probabilities, self.k - 1, axis=1)[:, : self.k]
        ranks = np.argsort(-np.take_along_axis(probabilities, indices, 1), axis=1, kind="stable")
        indices = np.take_along_axis(indices, ranks, 1).astype(np.uint64)
        top = np.take_along_axis(probabilities, indices.astype(np.int64), 1).astype(np.float64)
        mass, whole = top.sum(1), probabilities.sum(1, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            nats = np.nan_to_num(np.log(top[:, :1] / top[:, 1:]), nan=np.inf, posinf=np.inf)
            tail = np.nan_to_num((1 - mass / whole).clip(0.0, 1.0), nan=1.0)
        codes = np.empty((len(top), self.k), np.uint64)
        codes[:, 0] = np.where(whole > 0, np.minimum(np.round(np.arcsin(np.sqrt(tail)) * _NONE * 2 / np.pi), _NONE - 1), _NONE)
        codes[:, 1:] = np.where(nats > _REACH + _STEP / 2, _NONE, np.round(np.minimum(nats, _REACH) / _STEP))
        number = (codes * np.uint64(_LEVELS) ** np.arange(self.k, dtype=np.uint64)).sum(1, dtype=np.uint64)
        bits = self._bits(width)
        used = self.k * bits
        words = np.zeros((len(top), 2), np.uint64)
        words[:, 0] = np.bitwise_or.reduce(indices << (np.arange(self.k, dtype=np.uint64) * np.uint64(bits)), axis=1)
        if used < 64:
            words[:, 0] |= number << np.uint64(used)
        words[:, 1] = number >> np.uint64(64 - used) if used else 0
        return {"packed": words.astype("<u8").view(np.uint8)[:, :width].copy()}

    def unpack(self, fields: Fields) -> Values:
        """``indices`` int64 ``[B, k]`` from most to least probable, ``probabilities`` float32 ``[B, k]``, ``tail`` float32 ``[B]``; all zero where nobody answered."""
        packed = fields["packed"]
        bits = self._bits(packed.shape[1])
        indices, probabilities = np.empty((len(packed), self.k), np.int64), np.empty((len(packed), self.k), np.float32)
        tails = np.empty(len(packed), np.float32)
        for start in range(0, len(packed), _BLOCK):
            part = slice(start, start + _BLOCK)
            self._unpack(packed[part], bits, indices[part], probabilities[part], tails[part])
        return {"indices": torch.from_numpy(indices), "probabilities": torch.from_numpy(probabilities), "tail": torch.from_numpy(tails)}

    def decode(self, values: Values, classes: int, tail: Tail = "uniform") -> Tensor:
        answered = values["probabilities"].sum(1) + values["tail"] > 0
        return spread(values["indices"], values["probabilities"], answered, classes, tail)

    def _unpack(self, packed: np.ndarray, bits: int, indices: np.ndarray, probabilities: np.ndarray, tails: np.ndarray) -> None:
        """One block, written into the last three."""
        words = np.zeros((len(packed), 16), np.uint8)
        words[:, : packed.shape[1]] = packed
        low, high = np.ascontiguousarray(words.view("<u8").astype(np.uint64, copy=False).T)
        used = self.k * bits
        for i in range(self.k):
            indices.view(np.uint64)[:, i] = (low >> np.uint64(i * bits)) & np.uint64((1 << bits) - 1)
        number = (low >> np.uint64(used) | high << np.uint64(64 - used) if used < 64 else high) & np.uint64((1 << _code_bits(self.k)) - 1)
        rest = number // np.uint64(_LEVELS)
        tails[:] = _TAILS[number - rest * np.uint64(_LEVELS)]
        probabilities[:, 0] = 1.0
        for i in range(1, self.k):
            number, rest = rest, rest // np.uint64(_LEVELS)
            probabilities[:, i] = _RATIOS[number - rest * np.uint64(_LEVELS)]
        probabilities *= ((1 - tails) / probabilities.sum(1))[:, None]
        tails[tails == 1.0] = 0.0  # the code of those who did not answer

    def _bits(self, width: int) -> int:
        """Bits of a class number where a label takes ``width`` bytes: all there is room for."""
        return min((8 * width - _code_bits(self.k)) // self.k, 64 // self.k)


def _bits(classes: int) -> int:
    return max(1, (classes - 1).bit_length())


def _code_bits(k: int) -> int:
    """Bits of k codes."""
    return (_LEVELS**k - 1).bit_length()
