"""Whole numbers in as many bits as they need: exponential Golomb codes, for many rows at once.

A number x of order k is x + 2^k without its highest bit, and before it as many ones as it has bits more than k, and a zero: short where x is below 2^k, and never
longer than twice its logarithm beyond. Bits are filled from the lowest up. Rows are independent of each other; numpy works on one place of all rows at a time.
"""

from __future__ import annotations

import numpy as np

_LOGARITHMS = np.frexp(np.arange(1 << 19))[1].astype(np.int64) - 1


def log2(x: np.ndarray) -> np.ndarray:
    """Floor of the binary logarithm of whole numbers from 1 to 2^19 - 1."""
    return np.asarray(_LOGARITHMS[x])


def bits(x: np.ndarray, order: np.ndarray | int) -> np.ndarray:
    """How many bits x takes."""
    whole = log2(x + (1 << np.asarray(order)))
    return np.asarray(2 * whole - order + 1)


class Writer:
    """Rows of bits."""

    def __init__(self, rows: int, most: int):
        """``most``: bits of the longest row."""
        self.width = most // 8 + 9
        self.content = np.zeros(rows * self.width, np.uint8)
        self.at = np.arange(rows, dtype=np.int64) * self.width * 8
        self._words = _words(self.content)

    def fixed(self, x: np.ndarray, count: int) -> None:
        """x in ``count`` bits."""
        self._put(x, np.full(len(x), count))

    def golomb(self, x: np.ndarray, order: np.ndarray, where: np.ndarray) -> None:
        """x of an order, in the rows ``where`` (bool)."""
        raised = x + (1 << order)
        whole = log2(raised)
        ones = whole - order
        self._put(np.where(where, (1 << ones) - 1 | (raised - (1 << whole)) << (ones + 1), 0), np.where(where, ones + 1 + whole, 0))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows one after another, each in whole bytes; and their lengths in bytes."""
        rows = len(self.at)
        lengths = -(-(self.at - np.arange(rows) * self.width * 8) // 8)
        inside = np.arange(self.width) < lengths[:, None]
        return self.content.reshape(rows, self.width)[inside], lengths

    def _put(self, code: np.ndarray, count: np.ndarray) -> None:
        byte = self.at >> 3
        self._words[byte] |= code.astype(np.uint64) << (self.at & 7).astype(np.uint64)
        self.at += count


class Reader:
    """Rows of bits, from where each begins in ``content``, which is 8 bytes longer than they are."""

    def __init__(self, content: np.ndarray, begin: np.ndarray):
        self.at = begin.astype(np.int64) * 8
        self._words = _words(content)

    def fixed(self, count: int) -> np.ndarray:
        """The next ``count`` bits of every row."""
        found = (self._next() & np.uint64((1 << count) - 1)).astype(np.int64)
        self.at += count
        return found

    def golomb(self, order: np.ndarray, where: np.ndarray) -> np.ndarray:
        """The next number of an order in the rows ``where`` (bool); anything elsewhere."""
        word = self._next()
        ones = np.bitwise_count(word & ~(word + np.uint64(1))).astype(np.int64)
        whole = ones + order
        rest = word >> (ones + 1).astype(np.uint64)
        raised = (1 << whole) + (rest & ((np.uint64(1) << whole.astype(np.uint64)) - np.uint64(1))).astype(np.int64)
        self.at += np.where(where, ones + 1 + whole, 0)
        return np.asarray(raised - (1 << order))

    def _next(self) -> np.ndarray:
        return np.asarray(self._words[self.at >> 3] >> (self.at & 7).astype(np.uint64))


def _words(content: np.ndarray) -> np.ndarray:
    """The 64 bits from each byte on."""
    return np.ndarray((max(0, len(content) - 7),), "<u8", content, strides=(1,))
