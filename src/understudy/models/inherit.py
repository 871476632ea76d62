"""A smaller model out of a larger one of the same kind: its layers at even distances, its first heads, its first channels (TinyCLIP, arXiv 2309.12314, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy.errors import UserError
from understudy.models.backbone import Backbone
from understudy.models.clip import CLIP
from understudy.models.transformer import Transformer


def inherited(student: Backbone, teacher: Backbone) -> None:
    """Give ``student`` what it can take of ``teacher``, in place.

    Of a tower's blocks every n-th from the first, of tensors their first rows and columns; queries, keys and values are cut head by head. The scale stays its own. Raises UserError
    where the student is deeper or wider, or its heads are of another size.
    """
    assert isinstance(student, CLIP) and isinstance(teacher, CLIP), "no other kind has two towers"
    for own, theirs in ((student.image, teacher.image), (student.text, teacher.text)):
        if len(own.blocks) > len(theirs.blocks) or own.width > theirs.width or _head(own) != _head(theirs):
            raise UserError(
                f"a tower of {len(own.blocks)} blocks {own.width} wide with heads of {_head(own)} cannot inherit from one of {len(theirs.blocks)} blocks "
                f"{theirs.width} wide with heads of {_head(theirs)}: the student must be smaller, with heads of the teacher's size"
            )
        _tower(own, theirs)
    with torch.no_grad():
        for mine, other in ((student.from_image, teacher.from_image), (student.from_text, teacher.from_text)):
            mine.weight.copy_(_cut(other.weight, mine.weight))


def _head(tower: Transformer) -> int:
    """How wide a head is."""
    return tower.width // tower.blocks[0].attention.heads  # type: ignore[union-attr, operator, return-value]


@torch.no_grad()
def _tower(own: Transformer, theirs: Transformer) -> None:
    step, there = len(theirs.blocks) // len(own.blocks), theirs.state_dict()
    for name, mine in own.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1] = str(int(parts[1]) * step)
        other = there[".".join(parts)]
        if "qkv" in parts:  # queries, keys, values, one after the other
            mine.copy_(torch.cat([_cut(one, mine[: len(mine) // 3]) for one in other.chunk(3)]))
        else:
            mine.copy_(_cut(other, mine))


def _cut(large: Tensor, small: Tensor) -> Tensor:
    """The first of ``large`` along every axis, as many as ``small`` has."""
    if any(a < b for a, b in zip(large.shape, small.shape, strict=True)):
        raise UserError(f"weights of {tuple(large.shape)} cannot be cut to {tuple(small.shape)}: who inherits must be smaller in everything")
    return large[tuple(slice(0, size) for size in small.shape)]
