"""Models in forms that others load without us."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.data.modalities import TextModality
from understudy.data.samples import Inputs
from understudy.errors import MissingExtra, UserError
from understudy.models.student import Student

FORMATS = ("onnx", "timm", "transformers")
_NATIVE = {"timm": "timm", "transformers": "hf"}
_TOLERANCE = 1e-3
"""Largest difference of a logit, relative to the largest logit, between onnxruntime and torch."""


def native(student: Student) -> str | None:
    """The format of the library that a student comes from; None for a built-in one."""
    return {"timm": "timm", "hf": "transformers"}.get(student.spec["name"].partition(":")[0])


def export(student: Student, model: Path, kind: str, folder: Path) -> dict[str, Any]:
    """Write the student, saved in ``model``, to ``folder``/``kind`` in the format ``kind``; returns what was written and checked.

    Raises UserError for a format that this student has not, MissingExtra where a library is not installed.
    """
    if kind not in FORMATS:
        raise UserError(f"there is no export format '{kind}': choose one of {', '.join(FORMATS)}")
    if kind == "onnx":
        return _onnx(student.cpu().eval(), folder / kind)
    source = model / _NATIVE[kind]
    if not source.is_dir():
        advice = f"export it with --format {native(student)}" if native(student) else "export it with --format onnx"
        raise UserError(f"the model {student.spec['name']} is none of {kind}; {advice}")
    shutil.copytree(source, folder / kind, dirs_exist_ok=True)
    return {"format": kind, "path": str(folder / kind)}


class _Plain(nn.Module):
    """A student that takes tensors one after the other."""

    def __init__(self, student: Student, names: tuple[str, ...]):
        super().__init__()
        self.student, self.names = student, names

    def forward(self, *tensors: Tensor) -> Tensor:
        inputs = dict(zip(self.names, tensors, strict=True))
        return self.student(inputs) if self.student.head is not None else self.student.features(inputs).pooled


def _onnx(student: Student, folder: Path) -> dict[str, Any]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtra("export", "ONNX") from None
    inputs = example_inputs(student, 4)
    plain = _Plain(student, tuple(inputs))
    batch = torch.export.Dim("batch", min=1)
    length = torch.export.Dim("length", min=1, max=max(2, getattr(student.modality, "length", 2)))
    shapes = tuple({0: batch, 1: length} if "padding" in inputs else {0: batch} for _ in inputs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    answer = "logits" if student.head is not None else "features"
    with warnings.catch_warnings(action="ignore"), _silent():
        program = torch.onnx.export(
            plain,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=[answer],
            dynamic_shapes=(shapes,),
            verbose=False,
            external_data=False,
        )
        assert program is not None, "the dynamo exporter returns a program"
        program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    largest = max(_difference(plain, session, example_inputs(student, count)) for count in (1, 4, 7))
    if not largest <= _TOLERANCE:
        path.unlink()
        name = student.spec["name"]
        raise UserError(
            f"the ONNX model of {name} answers {largest:.1e} away from torch, more than {_TOLERANCE:.0e}, so it was not kept; please report this model"
        )
    about = {
        "inputs": {name: [str(t.dtype).removeprefix("torch."), *map(str, t.shape)] for name, t in inputs.items()},
        "output": answer,
        "classes": student.classes,
    }
    (folder / "model.json").write_text(
        json.dumps({**about, "modality": student.modality.signature()}, indent=1, ensure_ascii=False, default=str), encoding="utf-8"
    )
    if isinstance(student.modality, TextModality):
        student.modality.tokenizer.save(str(folder / "tokenizer.json"))
    return {"format": "onnx", "path": str(path), "difference": largest}


def _difference(plain: nn.Module, session: Any, inputs: Inputs) -> float:
    """Between torch and onnxruntime on the same inputs, relative to the largest number."""
    wanted = {entry.name for entry in session.get_inputs()}
    with torch.no_grad():
        ours = plain(*inputs.values()).numpy()
    theirs = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in wanted})[0]
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max()))


def example_inputs(student: Student, count: int) -> Inputs:
    """Inputs of the right names, types and shapes: ``count`` made-up samples in their plain view. Raises UserError for a model that writes."""
    modality: Any = student.modality
    if modality.name == "generation":
        raise UserError(
            "a language model that writes is not exported to onnx; its weights are in model/, and for an hf: model in model/hf as transformers loads them"
        )
    return modality.view(modality.examples(count), "plain", torch.arange(count)).inputs


class _silent:
    """The exporter logs what only its authors can use."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self.before)
