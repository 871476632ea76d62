"""From what a user typed to a student."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from understudy.data.samples import Modality
from understudy.errors import UserError
from understudy.models import architecture, io, named
from understudy.models.policy import student_of
from understudy.models.student import Student


def build(name: str, modality: Modality, classes: Sequence[str], key: int, **options: Any) -> Student:
    """A student for the data of ``modality``.

    ``name``: ``auto``; a built-in size and family such as ``small-resnet``, ``tiny-vit``, ``base-text``; ``timm:NAME``; ``hf:NAME_OR_FOLDER``; ``run:FOLDER``
    (a saved model, or a run that has one). Timm and hf names are looked for in the folder that UNDERSTUDY_MODELS names first. The student's own
    ``modality`` is what its data must be encoded with: an hf text model brings its tokenizer, a saved model what it was saved with.
    For prompts and answers the student is a ``Policy``. ``options`` are the model's (built-in: width, depth, drop_path …; timm and hf: ``pretrained``; language models:
    ``lora``, the rank of adapters that learn while the model itself stays). Everything is a pure function of ``key``.

    Raises UserError for unknown names and options, MissingExtra where a library is not installed.
    """
    if name.startswith("run:"):
        named.check_options(name, options, ())
        student = io.load(name.removeprefix("run:"))
        if student.modality.name != modality.name:
            raise UserError(f"the model in {name.removeprefix('run:')} reads {student.modality.name}, and the data are {modality.name}")
        return student if tuple(classes) in ((), student.classes) else student.with_head(classes, key)
    spec = json.loads(json.dumps(architecture.describe(name, modality, options)))  # as it will be read back
    return student_of(architecture.backbone_of(spec, key), named.own_modality(spec, modality), classes, spec, key)


def published(name: str, modality: Modality, classes: Sequence[str], key: int) -> Student:
    """A ``timm:`` or ``hf:`` model as it was published: with its own classifier, if that has all the ``classes`` (or none are asked for); else features alone.

    Raises UserError for unknown names, MissingExtra where a library is not installed.
    """
    spec = architecture.describe(name, modality, {})
    found = None if modality.name == "generation" else named.with_classifier(spec)
    if found is None or not set(classes) <= set(found[1].classes):
        return build(name, modality, (), key)
    backbone, own = found
    student = Student(backbone, named.own_modality(spec, modality), own.classes, spec, key)
    assert student.head is not None, "there are classes"
    with torch.no_grad():
        student.head.weight.copy_(own.weight)
        student.head.bias.copy_(own.bias)
    return student
