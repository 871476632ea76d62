"""Kinds of data: how a sample is encoded once and viewed again and again. A further kind is a file here, its line in ``KINDS``, and a reader in ``data``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from understudy.data.modalities.audio import AudioModality, Sound
from understudy.data.modalities.detection import Boxed, DetectionModality
from understudy.data.modalities.generation import Exchange, GenerationModality
from understudy.data.modalities.graph import GraphModality
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.image_text import Captioned, ImageTextModality
from understudy.data.modalities.molecule import MoleculeModality
from understudy.data.modalities.points import PointsModality
from understudy.data.modalities.segmentation import Scene, SceneModality, SegmentationModality
from understudy.data.modalities.series import SeriesModality
from understudy.data.modalities.table import TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.samples import Modality
from understudy.errors import UserError

__all__ = [
    "KINDS",
    "AudioModality",
    "Boxed",
    "Captioned",
    "DetectionModality",
    "Exchange",
    "GenerationModality",
    "GraphModality",
    "ImageModality",
    "ImageTextModality",
    "MoleculeModality",
    "PointsModality",
    "Scene",
    "SceneModality",
    "SegmentationModality",
    "SeriesModality",
    "Sound",
    "TableModality",
    "TextModality",
    "restore",
]

KINDS: dict[str, type[Modality]] = {
    kind.name: kind
    for kind in (
        AudioModality,
        SeriesModality,
        SegmentationModality,
        DetectionModality,
        ImageModality,
        ImageTextModality,
        TextModality,
        TableModality,
        GenerationModality,
        GraphModality,
        MoleculeModality,
        PointsModality,
    )
}


def restore(signature: dict[str, Any], folder: Path | None = None) -> Modality:
    """The modality that has this ``signature``; a tokenizer and the like are read from ``folder``.

    Raises UserError for an unknown kind of data, and where what it needs is missing or another one.
    """
    kind = KINDS.get(signature.get("name", ""))
    if kind is None:
        raise UserError(f"there is no kind of data called {signature.get('name')!r}: this version reads {', '.join(KINDS)}")
    return kind.restore(signature, folder)
