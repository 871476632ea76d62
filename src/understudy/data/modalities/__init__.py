"""Kinds of data: how a sample is encoded once and viewed again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.data.modalities.generation import Exchange, GenerationModality
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.table import TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.samples import Modality
from understudy.errors import UserError

__all__ = ["Exchange", "GenerationModality", "ImageModality", "TableModality", "TextModality", "restore"]


def restore(signature: dict[str, Any], folder: Path | None = None) -> Modality:
    """The modality that has this ``signature``; a text modality reads its tokenizer.json from ``folder``.

    Raises UserError for an unknown kind of data, and where the tokenizer is missing or another one.
    """
    match signature.get("name"):
        case "image":
            return ImageModality(signature["size"], signature["channels"], signature["canvas"], signature["flip"])
        case "table":
            return TableModality.restore(signature)
        case "text":
            if folder is None:
                raise UserError("a text modality is rebuilt from its tokenizer.json: name the folder that holds it")
            return TextModality.restore(signature, folder)
        case "generation":
            if folder is None:
                raise UserError("prompts and answers are read with a tokenizer.json: name the folder that holds it")
            return GenerationModality.restore(signature, folder)
        case other:
            raise UserError(f"there is no kind of data called {other!r}: this version reads image, text, table and generation")
