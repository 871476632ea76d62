"""Classifiers out of the names of their classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from understudy.data.modalities.image_text import ImageTextModality
from understudy.errors import UserError
from understudy.models.clip import CLIP
from understudy.models.predict import device_of, evaluating
from understudy.models.student import Student


def of_images(student: Student) -> Student:
    """The same model without classes, as a reader of images without captions. Raises UserError where it is no CLIP model."""
    if not isinstance(student.backbone, CLIP) or not isinstance(student.modality, ImageTextModality):
        raise UserError(f"classes are told by name to a model of images and captions, and {student.spec['name']} is none; train one with clip")
    return Student(student.clone().backbone, student.modality.image, (), student.spec, key=0).to(device_of(student)).eval()


def by_names(student: Student, classes: Sequence[str], templates: Sequence[str] = ("{}",)) -> Student:
    """A classifier of images out of the names of its classes: its head are the joint features of each name in every template, averaged (2103.00020, section 3.1.4).

    It reads images alone. Raises UserError where the student is no CLIP model, without classes, and for a template without a place for the name.
    """
    told, model, modality = of_images(student).with_head(classes, 0), student.backbone, student.modality
    assert isinstance(model, CLIP) and isinstance(modality, ImageTextModality), "of_images has looked"
    if told.head is None:
        raise UserError("there is no class to be told by name: give data with labels, or folders named like classes")
    for template in templates:
        if "{}" not in template:
            raise UserError(f"the prompt {template!r} has no place for the name of a class; write one with {{}}, such as 'a photo of a {{}}'")
    with evaluating(student):
        means = []
        for name in classes:
            raw = modality.text.collate([modality.text.encode(template.replace("{}", name)) for template in templates])
            inputs = modality.text.view({n: t.to(device_of(student)) for n, t in raw.items()}, "plain", torch.zeros(len(templates), dtype=torch.int64)).inputs
            means.append(F.normalize(model.texts(inputs).mean(0), dim=0))
        told.head.weight.copy_(model.scale.exp() * torch.stack(means))
        told.head.bias.zero_()
    return told.eval()
