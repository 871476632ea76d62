"""Inputs of every modality, small and fixed."""

from __future__ import annotations

import torch

from understudy import models
from understudy.data.modalities import ImageModality, TableModality, TextModality
from understudy.data.modalities.table import Category, Number
from understudy.data.samples import Modality, View
from understudy.models import Student

CLASSES = ("left", "right", "middle")


def modality(kind: str, size: int = 28, channels: int = 1) -> Modality:
    if kind == "image":
        return ImageModality(size, channels)
    if kind == "text":
        return TextModality.train(["the cat sat on the mat", "a dog ran over the hill"], vocabulary=280, length=16)
    numbers = [Number(name, 0.0, 1.0, (-1.0, 0.0, 1.0)) for name in ("height", "weight", "age")]
    return TableModality(numbers, [Category("colour", ("red", "blue"), (0.5, 0.5)), Category("town", ("A", "B", "C"), (0.4, 0.3, 0.3))])


def inputs(kind: str, batch: int = 4, seed: int = 0, size: int = 28, channels: int = 1) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    if kind == "image":
        return {"pixels": torch.rand(batch, channels, size, size, generator=g)}
    if kind == "text":
        lengths = torch.tensor([10, 6, 10, 3])[:batch, None]
        padding = torch.arange(10).expand(batch, 10) >= lengths
        return {"tokens": torch.randint(5, 280, (batch, 10), generator=g).masked_fill(padding, 0), "padding": padding}
    absent = torch.rand(batch, 3, generator=g) < 0.3
    numbers = torch.randn(batch, 3, generator=g).masked_fill(absent, 0)
    return {"numbers": numbers, "absent": absent, "categories": torch.stack([torch.randint(0, n, (batch,), generator=g) for n in (3, 4)], 1)}


def student(name: str, key: int = 1, size: int = 28, channels: int = 1, **options: object) -> Student:
    kind = {"resnet": "image", "vit": "image", "convnet": "image", "text": "text", "table": "table"}[name.split("-")[1]]
    return models.build(name, modality(kind, size, channels), CLASSES, key, **options)


def masked_view(values: dict[str, torch.Tensor], masked: torch.Tensor | None) -> View:
    return View("masked", values, torch.arange(len(next(iter(values.values())))), masked)


BUILT_IN = {"tiny-resnet": "image", "tiny-vit": "image", "tiny-convnet": "image", "tiny-text": "text", "tiny-table": "table"}


def every_second(count: int, batch: int = 4) -> torch.Tensor:
    """Half of the positions hidden, other ones for odd samples."""
    return (torch.arange(count) + torch.arange(batch)[:, None]) % 2 == 0
