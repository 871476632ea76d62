"""Labels of different lengths, one after another in one column of bytes.

Three columns hold them: ``content`` uint8 of all labels and 8 bytes to read beyond, ``lengths`` uint8 of each, and ``starts`` int64 of every 64th label, so that any label is found by adding
up at most 63 lengths, and an index costs an eighth of a byte a label.
"""

from __future__ import annotations

import numpy as np

STRIDE = 64
SPARE = 8
"""Bytes behind the last label, so that 64 bits can be read from anywhere in it."""


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """Where every 64th label begins."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1:STRIDE].astype(np.int64) if len(lengths) else np.zeros(0, np.int64)


def places(lengths: np.ndarray, starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where each of ``rows`` int64 ``[n]`` begins: int64 ``[n]``."""
    block, inside = rows // STRIDE, rows % STRIDE
    offset = np.arange(STRIDE)
    at = np.minimum(block[:, None] * STRIDE + offset, len(lengths) - 1)
    before = np.where(offset < inside[:, None], lengths[at], 0)
    return np.asarray(starts[block] + before.sum(1, dtype=np.int64))


def taken(content: np.ndarray, lengths: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Content and lengths of the labels ``order``, in that order."""
    begin = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[order]
    lengths = lengths[order]
    ends = np.cumsum(lengths, dtype=np.int64)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(begin - (ends - lengths), lengths)
    return content[at], lengths
