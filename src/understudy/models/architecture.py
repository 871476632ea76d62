"""From a name to a backbone: the built-in families and their sizes, and the specification that rebuilds one."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from understudy import keyed, nearest
from understudy.data.samples import Modality
from understudy.errors import UserError
from understudy.models import named
from understudy.models.audio import AudioResNet, AudioTransformer
from understudy.models.backbone import Backbone, seeded
from understudy.models.causal import CausalTransformer
from understudy.models.clip import CLIP
from understudy.models.dit import DiT
from understudy.models.graph import GCN
from understudy.models.image import ConvNet, SmallResNet, ViT
from understudy.models.molecule import MoleculeTransformer
from understudy.models.points import PointTransformer
from understudy.models.series import SeriesTransformer
from understudy.models.table import TableTransformer
from understudy.models.text import TextTransformer
from understudy.models.unet import BoxNet, UNet

BUILT_IN: dict[str, tuple[type[Backbone], dict[str, dict[str, Any]]]] = {
    "resnet": (SmallResNet, {
        "tiny": {"widths": [16, 32, 64]},
        "small": {"widths": [32, 64, 128]},
        "base": {"widths": [64, 128, 256], "depth": 2},
    }),
    "vit": (ViT, {
        "tiny": {"width": 64, "depth": 3, "heads": 2},
        "small": {"width": 96, "depth": 4, "heads": 3},
        "base": {"width": 256, "depth": 8, "heads": 8},
    }),
    "convnet": (ConvNet, {
        "tiny": {"width": 16, "depth": 2},
        "small": {"width": 64, "depth": 3},
        "base": {"width": 128, "depth": 3},
    }),
    "dit": (DiT, {
        "tiny": {"width": 64, "depth": 4, "heads": 2},
        "small": {"width": 128, "depth": 6, "heads": 4},
        "base": {"width": 256, "depth": 8, "heads": 8},
    }),
    "text": (TextTransformer, {
        "tiny": {"width": 64, "depth": 2, "heads": 4},
        "small": {"width": 128, "depth": 2, "heads": 4},
        "base": {"width": 256, "depth": 6, "heads": 8},
    }),
    "table": (TableTransformer, {
        "tiny": {"width": 32, "depth": 2, "heads": 4},
        "small": {"width": 64, "depth": 3, "heads": 4},
        "base": {"width": 128, "depth": 4, "heads": 8},
    }),
    "gcn": (GCN, {
        "tiny": {"width": 32},
        "small": {"width": 64, "dropout": 0.5},
        "base": {"width": 256, "dropout": 0.5},
    }),
    "points": (PointTransformer, {
        "tiny": {"width": 48, "depth": 2, "heads": 4},
        "small": {"width": 96, "depth": 3, "heads": 4},
        "base": {"width": 256, "depth": 6, "heads": 8},
    }),
    "molecule": (MoleculeTransformer, {
        "tiny": {"width": 64, "depth": 2, "heads": 4},
        "small": {"width": 128, "depth": 3, "heads": 4},
        "base": {"width": 256, "depth": 6, "heads": 8},
    }),
    "series": (SeriesTransformer, {
        "tiny": {"width": 32, "depth": 2, "heads": 2},
        "small": {"width": 64, "depth": 3, "heads": 4},
        "base": {"width": 128, "depth": 3, "heads": 16},
    }),
    "audio": (AudioResNet, {
        "tiny": {"widths": [32, 64, 64]},
        "small": {"widths": [64, 128, 128]},
        "base": {"widths": [128, 256, 256], "depth": 2},
    }),
    "ast": (AudioTransformer, {
        "tiny": {"width": 64, "depth": 2, "heads": 4},
        "small": {"width": 128, "depth": 4, "heads": 4},
        "base": {"width": 256, "depth": 8, "heads": 8},
    }),
    "unet": (UNet, {
        "tiny": {"widths": [16, 32, 64]},
        "small": {"widths": [32, 64, 128]},
        "base": {"widths": [64, 128, 256], "stride": 1, "depth": 2},
    }),
    "boxnet": (BoxNet, {
        "tiny": {"widths": [16, 32, 64]},
        "small": {"widths": [32, 64, 128]},
        "base": {"widths": [64, 128, 256], "depth": 2},
    }),
    "clip": (CLIP, {
        "tiny": {"width": 64, "depth": 2, "text_depth": 1, "heads": 2, "joint": 32},
        "small": {"width": 96, "depth": 4, "text_depth": 2, "heads": 3, "joint": 64},
        "base": {"width": 256, "depth": 8, "text_depth": 4, "heads": 8, "joint": 256},
    }),
    "lm": (CausalTransformer, {
        "tiny": {"width": 64, "depth": 2, "heads": 4},
        "small": {"width": 128, "depth": 4, "heads": 4},
        "base": {"width": 256, "depth": 6, "heads": 8},
    }),
}  # fmt: skip
DEFAULT = {kind.modality: f"small-{family}" for family, (kind, _) in reversed(BUILT_IN.items())}
"""The model of each kind of data that ``auto`` means: the first of its families."""
NAMES = tuple(f"{size}-{family}" for family, (_, sizes) in BUILT_IN.items() for size in sizes)


def describe(name: str, modality: Modality, options: dict[str, Any]) -> dict[str, Any]:
    """The specification of a model: JSON, enough to build it again on a machine that has never seen its source.

    Raises UserError for a name or an option that does not exist, and for a model of another modality.
    """
    name = DEFAULT[modality.name] if name == "auto" else name
    if name.startswith(("timm:", "hf:")):
        return named.describe(name, modality, options)
    if name not in NAMES:
        hint = nearest.hint(name, NAMES, f"built in are {', '.join(NAMES)}")
        raise UserError(f"unknown model '{name}'; {hint} (others are timm:NAME, hf:NAME_OR_FOLDER and run:FOLDER)")
    kind, sizes = BUILT_IN[name.split("-")[1]]
    if kind.modality != modality.name:
        raise UserError(f"the model {name} reads {kind.modality}, and the data are {modality.name}; use {DEFAULT[modality.name]} or auto")
    shape = modality.shape()
    known = [p for p in inspect.signature(kind).parameters if p not in shape]
    named.check_options(name, options, known)
    return {"name": name, "shape": shape, "options": {**sizes[name.split("-")[0]], **options}}


def backbone_of(spec: dict[str, Any], key: int, published: bool = True) -> Backbone:
    """Build what ``describe`` described, with weights that are a pure function of ``key``.

    timm and transformers models get the weights they were published with, unless ``published`` is false or the specification says ``pretrained: false``.
    """
    with seeded(int(keyed.fold(key, "backbone"))):
        if spec["name"].startswith(("timm:", "hf:")):
            return named.build(spec, published)
        kind, _ = BUILT_IN[spec["name"].split("-")[1]]
        return kind(**spec["shape"], **spec["options"])


def outline_of(spec: dict[str, Any]) -> Backbone:
    """A built-in model without numbers, on the meta device: to be called with the weights of another (``torch.func.functional_call``)."""
    kind, _ = BUILT_IN[spec["name"].split("-")[1]]
    with torch.device("meta"):
        return kind(**spec["shape"], **spec["options"])
