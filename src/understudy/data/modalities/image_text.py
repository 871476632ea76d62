"""Images with captions: two ways to say the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.text import TextModality
from understudy.data.samples import Inputs, View
from understudy.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Captioned(NamedTuple):
    """An image and what somebody says about it."""

    image: Image.Image
    caption: str


class ImageTextModality(ImageModality):
    """An image, encoded as ``ImageModality`` does, and its caption, at most ``text.length`` tokens.

    A mirrored image can make a caption wrong (left, right, letters), so ``flip`` is off unless asked for.
    """

    name = "image-text"
    noun = "images with captions"
    views: tuple[str, ...] = ("plain", "weak", "strong", "image", "text")

    def __init__(self, size: int, channels: int, text: TextModality, canvas: int | None = None, flip: bool = False):
        super().__init__(size, channels, canvas, flip)
        self.text = text

    @property
    def tokenizer(self) -> Tokenizer:
        return self.text.tokenizer

    @property
    def image(self) -> ImageModality:
        """How an image without a caption is read."""
        return ImageModality(self.size, self.channels, self.canvas, self.flip)

    def signature(self) -> dict[str, Any]:
        return {**super().signature(), "text": self.text.signature()}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None) -> ImageTextModality:
        text = TextModality.restore(signature["text"], folder)
        return cls(signature["size"], signature["channels"], text, signature["canvas"], signature["flip"])

    def shape(self) -> dict[str, Any]:
        return {**super().shape(), **self.text.shape()}

    def examples(self, count: int) -> Inputs:
        return {**super().examples(count), **self.text.examples(count)}

    def encode(self, original: Captioned) -> Inputs:  # type: ignore[override]
        """``{"image": uint8 [C, canvas, canvas], "tokens": int64 [length], "length": int64 []}``; the caption is filled up to ``text.length``."""
        said = self.text.encode(original.caption)
        tokens = torch.full((self.text.length,), self.text.pad, dtype=torch.int64)
        tokens[: len(said["tokens"])] = said["tokens"]
        return {**super().encode(original.image), "tokens": tokens, "length": said["length"]}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {name: torch.stack([e[name] for e in encoded]) for name in ("image", "tokens", "length")}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"pixels", "tokens", "padding"}``. ``weak``: the image moved a little, the caption as it is; ``strong``: the strong image and the weak caption; ``image`` and
        ``text``: one of them alone, in the view ``base``."""
        match name:
            case "image":
                return View(name, super().view(raw, options.pop("base", "plain"), keys, **options).inputs, keys)
            case "text":
                return View(name, self.text.view(raw, options.pop("base", "plain"), keys, **options).inputs, keys)
            case "plain" | "weak" | "strong":
                caption = self.text.view(raw, "weak" if name == "strong" else "plain", keys)
                return View(name, {**super().view(raw, name, keys, **options).inputs, **caption.inputs}, keys)
            case _:
                raise UserError(f"images with captions have no view '{name}': choose one of {', '.join(self.views)}")
