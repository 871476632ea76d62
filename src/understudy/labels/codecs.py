"""How a teacher's answer is written down: what it costs in bytes, and how far the reading may be from what was said.

``pack`` turns named tensors into named numpy arrays with one row per label, ``unpack`` turns such rows back, ``decode`` makes class probabilities of them.
An abstention (label -1, or a row of zero probabilities) decodes to a row of zeros: under a cross-entropy it teaches nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from understudy import maths
from understudy.errors import UserError

Values = dict[str, Tensor]
Fields = dict[str, np.ndarray]
Tail = Literal["uniform", "zero"]
"""Where the probability goes that was not stored class by class, as in ``maths.expand_topk``: evenly over the other classes, or nowhere, the stored ones being
rescaled to sum to one."""


Layout = dict[str, tuple[type[np.generic], tuple[int, ...]]]
"""Type and shape of one label's fields."""


@dataclass(frozen=True)
class Codec(ABC):
    """One way of writing labels down. Two codecs are equal where their parameters are. ``classes`` below is their number, C."""

    name: ClassVar[str]
    ragged: ClassVar[bool] = False
    """Whether labels differ in length. ``pack`` then gives ``content`` uint8 of all, one after another, and ``lengths`` ``[B]``; ``unpack`` gets the content of a shard, 8 bytes
    longer than its last label, and where each label begins in it, ``begin`` int64 ``[B]``."""

    @abstractmethod
    def layout(self, classes: int) -> Layout:
        """What one label is on disk. Raises UserError where the codec cannot hold this number of classes."""

    @abstractmethod
    def error(self) -> float:
        """Largest absolute difference between what was said and what is read back."""

    @abstractmethod
    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """Rows to store. Raises UserError where the values are not finite or have the wrong shape."""

    @abstractmethod
    def unpack(self, fields: Fields) -> Values:
        """The stored rows as tensors."""

    def decode(self, values: Values, classes: int, tail: Tail = "uniform") -> Tensor:
        """Class probabilities float32 ``[B, C]`` of unpacked values."""
        raise UserError(f"labels of the codec '{self.name}' hold no class probabilities: store them as hard, soft or topk.")

    def size(self, classes: int) -> int:
        """Bytes of one label on disk, without the index: 8 bytes for each sample, and where numbers are not the same for all samples of a shard, 16."""
        return sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in self.layout(classes).values())

    def describe(self) -> dict[str, Any]:
        """Name and parameters as JSON; ``codec`` reads it."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class Hard(Codec):
    """The class and how sure the teacher was: int32 (-1 = abstained) and float32 (NaN = the teacher did not say)."""

    name: ClassVar[str] = "hard"

    def layout(self, classes: int) -> Layout:
        return {"label": (np.int32, ()), "confidence": (np.float32, ())}

    def error(self) -> float:
        return 0.0

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``label`` ``[B]`` and, if known, ``confidence`` ``[B]``; or from ``probabilities`` ``[B, C]``."""
        if "label" in values:
            label = as_numpy(values["label"]).astype(np.int32)
            confidence = as_numpy(values["confidence"]) if "confidence" in values else np.full(label.shape, np.nan)
        else:
            probabilities = rows_of(values, "probabilities", classes)
            confidence = probabilities.max(1)
            label = np.where(confidence > 0, probabilities.argmax(1), -1).astype(np.int32)
        if label.ndim != 1 or ((label < -1) | (label >= classes)).any():
            raise UserError(f"a hard label must be one class number from 0 to {classes - 1}, or -1 for none, per sample.")
        return {"label": label, "confidence": confidence.astype(np.float32)}

    def unpack(self, fields: Fields) -> Values:
        """``label`` int64 ``[B]``, ``confidence`` float32 ``[B]``."""
        return {"label": torch.from_numpy(fields["label"].astype(np.int64)), "confidence": torch.from_numpy(fields["confidence"])}

    def decode(self, values: Values, classes: int, tail: Tail = "uniform") -> Tensor:
        """The confidence on the class and the rest in the tail; an unknown confidence counts as 1."""
        label, confidence = values["label"], values["confidence"].nan_to_num(nan=1.0)
        return spread(label.clamp_min(0).unsqueeze(1), confidence.unsqueeze(1), label >= 0, classes, tail)


@dataclass(frozen=True)
class Soft(Codec):
    """All class probabilities, in float32 (the same bits) or float16 (each within 2^-11 of itself or 2^-25, whichever is larger)."""

    name: ClassVar[str] = "soft"
    dtype: Literal["float16", "float32"] = "float16"

    def layout(self, classes: int) -> Layout:
        return {"probabilities": (np.float16 if self.dtype == "float16" else np.float32, (classes,))}

    def error(self) -> float:
        return 2.0**-12 if self.dtype == "float16" else 0.0

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``probabilities`` ``[B, C]``."""
        return {"probabilities": rows_of(values, "probabilities", classes).astype(self.dtype)}

    def unpack(self, fields: Fields) -> Values:
        """``probabilities`` float32 ``[B, C]``."""
        return {"probabilities": torch.from_numpy(fields["probabilities"].astype(np.float32))}

    def decode(self, values: Values, classes: int, tail: Tail = "uniform") -> Tensor:
        """The probabilities as stored; nothing is left for a tail."""
        return values["probabilities"]


@dataclass(frozen=True)
class TopK(Codec):
    """The k most probable classes and the mass of all others, each in whole bytes: FKD's k=5 in 16. ``packed.Packed`` takes 11 for a little less precision.

    Class numbers take 16 bits (32 past 65,536 classes). Negative log-probabilities are rounded to a grid of ``step`` nats up to 12 nats (8 bits) or 16 nats
    (16 bits); the highest code means zero. Stored classes and tail are normalised to sum to one on reading, so that each log-probability is off by at most
    ``step`` and each probability by at most tanh(step / 4), plus what was cut off: 0.012 with 8 bits, 6.2e-5 with 16 bits at k=5. The bound is for the
    stored classes and for the tail as a whole; the classes inside the tail are known only together.
    """

    name: ClassVar[str] = "topk"
    k: int = 5
    bits: Literal[8, 16] = 8

    @property
    def reach(self) -> float:
        """The largest negative log-probability that is told from zero, nats."""
        return 12.0 if self.bits == 8 else 16.0

    @property
    def step(self) -> float:
        """Distance of two codes, nats."""
        return self.reach / (self._zero - 1)

    def layout(self, classes: int) -> Layout:
        if not 1 <= self.k < classes:
            raise UserError(f"top-k labels of {classes} classes need a k from 1 to {classes - 1}, got k={self.k}.")
        code = np.uint8 if self.bits == 8 else np.uint16
        return {"indices": (np.uint16 if classes <= 2**16 else np.uint32, (self.k,)), "top": (code, (self.k,)), "tail": (code, ())}

    def error(self) -> float:
        return math.tanh(self.step / 4) + (self.k + 1) * math.exp(-self.reach)

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``probabilities`` ``[B, C]``."""
        probabilities = rows_of(values, "probabilities", classes)
        indices = np.argpartition(-probabilities, self.k - 1, axis=1)[:, : self.k]
        ranks = np.argsort(-np.take_along_axis(probabilities, indices, 1), axis=1, kind="stable")
        indices = np.take_along_axis(indices, ranks, 1)
        top = np.take_along_axis(probabilities, indices, 1).astype(np.float64)
        tail = (probabilities.sum(1, dtype=np.float64) - top.sum(1)).clip(0.0)
        columns = {"indices": indices, "top": self._code(top), "tail": self._code(tail)}
        return {name: columns[name].astype(kind) for name, (kind, _) in self.layout(classes).items()}

    def unpack(self, fields: Fields) -> Values:
        """``indices`` int64 ``[B, k]`` from most to least probable, ``probabilities`` float32 ``[B, k]``, ``tail`` float32 ``[B]``."""
        top, tail = self._value(fields["top"]), self._value(fields["tail"])
        whole = np.maximum(top.sum(1) + tail, np.finfo(np.float64).tiny)
        return {
            "indices": torch.from_numpy(fields["indices"].astype(np.int64)),
            "probabilities": torch.from_numpy((top / whole[:, None]).astype(np.float32)),
            "tail": torch.from_numpy((tail / whole).astype(np.float32)),
        }

    def decode(self, values: Values, classes: int, tail: Tail = "uniform") -> Tensor:
        answered = values["probabilities"].sum(1) + values["tail"] > 0
        return spread(values["indices"], values["probabilities"], answered, classes, tail)

    @property
    def _zero(self) -> int:
        return 2**self.bits - 1

    def _code(self, probabilities: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            nats = -np.log(probabilities)
        return np.round(nats / self.step).clip(0, self._zero)

    def _value(self, codes: np.ndarray) -> np.ndarray:
        return np.where(codes == self._zero, 0.0, np.exp(-self.step * codes.astype(np.float64)))


@dataclass(frozen=True)
class Features(Codec):
    """A feature vector of ``width`` numbers in float16: each within 2^-11 of itself."""

    name: ClassVar[str] = "features"
    width: int

    def layout(self, classes: int) -> Layout:
        return {"pooled": (np.float16, (self.width,))}

    def error(self) -> float:
        """Of numbers up to 1; it grows in proportion beyond."""
        return 2.0**-12

    def pack(self, values: Mapping[str, Tensor], classes: int) -> Fields:
        """From ``pooled`` ``[B, D]``."""
        pooled = rows_of(values, "pooled", self.width)
        if np.abs(pooled).max(initial=0.0) > np.finfo(np.float16).max:
            raise UserError("a feature is larger than 65504, which float16 cannot hold: normalise the features before storing them.")
        return {"pooled": pooled.astype(np.float16)}

    def unpack(self, fields: Fields) -> Values:
        """``pooled`` float32 ``[B, D]``."""
        return {"pooled": torch.from_numpy(fields["pooled"].astype(np.float32))}


def as_numpy(x: Tensor) -> np.ndarray:
    """On the CPU, in float32 where it is a fraction."""
    x = x.detach().cpu()
    return (x.float() if x.dtype.is_floating_point else x).numpy()


def rows_of(values: Mapping[str, Tensor], name: str, width: int) -> np.ndarray:
    """``values[name]`` as ``[B, width]``. Raises UserError where it is not there, has another shape or is not finite."""
    if name not in values:
        raise UserError(f"the labels to store come without '{name}': they have {', '.join(values)}.")
    rows = as_numpy(values[name])
    if rows.ndim != 2 or rows.shape[1] != width:
        raise UserError(f"the store expects '{name}' with {width} numbers per sample, and the teacher gave the shape {list(rows.shape)}.")
    broken = int((~np.isfinite(rows)).any(1).sum())
    if broken:
        raise UserError(f"the teacher's '{name}' are not finite for {broken} of {len(rows)} samples: look at the teacher before storing its labels.")
    return rows


def spread(indices: Tensor, probabilities: Tensor, answered: Tensor, classes: int, tail: Tail) -> Tensor:
    """Stored classes and tail as probabilities of all classes; zeros where nobody ``answered``."""
    if tail not in ("uniform", "zero"):
        raise UserError(f"the tail of a label can be 'uniform' or 'zero', not '{tail}'.")
    whole = maths.expand_topk(indices, probabilities, classes, tail).nan_to_num()  # nothing divided by nothing, where no mass is on the stored classes
    return whole * answered.unsqueeze(1)
