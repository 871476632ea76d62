"""Where each label is. A sample's labels have consecutive numbers as a rule and stand one after another, so that the index knows runs, not labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Runs:
    """Run i: the labels of sample ``keys[i]`` with the numbers ``first[i]`` to ``first[i] + count[i]`` - 1, in consecutive rows from ``row[i]`` on. Sorted by key; of runs of
    one sample the later one is newer."""

    keys: np.ndarray
    first: np.ndarray
    count: np.ndarray
    row: np.ndarray
    known: tuple[int, int] | None = None
    """Number of different labels and highest number plus one, where they have been counted."""
    begins: np.ndarray | None = None
    """Where the keys of each of 2^k equal ranges begin, and their end, where that has been written down: keys are digests, so that a range holds few."""

    @classmethod
    def none(cls) -> Runs:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))

    @classmethod
    def joined(cls, parts: list[Runs]) -> Runs:
        """Runs of several shards, older ones first."""
        keys = np.concatenate([part.keys for part in parts])
        order = np.argsort(keys, kind="stable")
        first, count, row = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("first", "count", "row"))
        return cls(keys[order], first, count, row)

    def find(self, keys: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The row of each pair, and whether it is there at all."""
        rows, found = np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        left = np.argsort(keys, kind="stable")  # neighbours are found in the same pages
        at = self._last(keys[left])
        while len(left):  # once more for each older run of one sample
            there = at >= 0
            left, at = left[there], at[there]
            same = self.keys[at] == keys[left]
            left, at = left[same], at[same]
            inside = numbers[left] - self.first[at]
            hit = (inside >= 0) & (inside < self.count[at])
            rows[left[hit]] = self.row[at[hit]] + inside[hit]
            found[left[hit]] = True
            left, at = left[~hit], at[~hit] - 1
        return rows, found

    def _last(self, keys: np.ndarray) -> np.ndarray:
        """The last run of a key at most each of ``keys``; -1 where there is none."""
        if self.begins is None:
            return np.searchsorted(self.keys, keys, side="right") - 1
        part = ranges(keys, len(self.begins) - 1)
        low, high = self.begins[part], self.begins[part + 1]
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) // 2
            below = (low < high) & (self.keys[np.minimum(middle, len(self.keys) - 1)] <= keys)
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        return low - 1

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Key and number of every different label, sorted by both."""
        ends = np.cumsum(self.count, dtype=np.int64)
        inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - self.count, self.count)
        keys, numbers = np.repeat(self.keys, self.count), np.repeat(self.first, self.count).astype(np.int64) + inside
        order = np.lexsort((numbers, keys))
        keys, numbers = keys[order], numbers[order]
        fresh = np.append(True, (keys[1:] != keys[:-1]) | (numbers[1:] != numbers[:-1]))[: len(keys)]
        return keys[fresh], numbers[fresh]

    def labels(self) -> int:
        """Number of different labels."""
        if self.known is not None:
            return self.known[0]
        again = self.keys[1:] == self.keys[:-1]
        several = np.append(again, False) | np.append(False, again)
        several = several[: len(self.keys)]
        few = Runs(self.keys[several], self.first[several], self.count[several], self.row[several])
        return int(self.count[~several].sum(dtype=np.int64)) + len(few.pairs()[0])

    @property
    def span(self) -> int:
        """One more than the highest number."""
        if self.known is not None:
            return self.known[1]
        return int((self.first.astype(np.int64) + self.count).max(initial=0))


def ranges(keys: np.ndarray, count: int) -> np.ndarray:
    """In which of ``count`` equal ranges, a power of two of them and two at least, each key lies."""
    return (keys >> (64 - count.bit_length() + 1)) + count // 2


def grouped(keys: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, Runs]:
    """The order in which labels form runs, and these; of labels written twice the last stays. ``row`` counts in that order."""
    order = np.lexsort((np.arange(len(keys)), numbers, keys))
    keys, numbers = keys[order], numbers[order]
    last = np.append((keys[1:] != keys[:-1]) | (numbers[1:] != numbers[:-1]), True)[: len(keys)]
    order, keys, numbers = order[last], keys[last], numbers[last]
    begins = np.append(True, (keys[1:] != keys[:-1]) | (numbers[1:] != numbers[:-1] + 1))[: len(keys)].nonzero()[0]
    count = np.diff(np.append(begins, len(keys)))
    return order, Runs(keys[begins], numbers[begins].astype(np.int32), count.astype(np.int32), begins.astype(np.int64))
