"""Codecs by name."""

from __future__ import annotations

from typing import Any

from understudy.errors import UserError
from understudy.labels.codecs import Codec, Features, Hard, Soft, TopK
from understudy.labels.packed import Packed
from understudy.labels.tokens import TokenDraws, TokenTopK

_CODECS: dict[str, type[Codec]] = {kind.name: kind for kind in (Hard, Soft, TopK, Packed, Features, TokenTopK, TokenDraws)}


def codec(name: str, **parameters: Any) -> Codec:
    """The codec of this name, such as ``codec("topk", k=3)``. Raises UserError where there is none or the parameters are wrong."""
    if name not in _CODECS:
        raise UserError(f"there is no label codec '{name}': use one of {', '.join(_CODECS)}.")
    try:
        return _CODECS[name](**parameters)
    except TypeError as error:
        raise UserError(f"the label codec '{name}' does not take these parameters ({', '.join(parameters)}): {error}.") from error
