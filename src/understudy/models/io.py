"""A student on disk: weights as safetensors, everything else as JSON. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from understudy.data import modalities
from understudy.errors import UserError
from understudy.models import named
from understudy.models.architecture import backbone_of
from understudy.models.policy import student_of
from understudy.models.student import Student
from understudy.models.weights import PICKLES, plain_weights, read_weights, refuse_pickles

FORMAT = 1


def save(student: Student, folder: str | Path) -> None:
    """Write ``student`` to ``folder``: ``model.safetensors`` and ``model.json``, ``tokenizer.json`` where there is one.

    A timm student also becomes ``timm/`` (``timm.create_model("local-dir:FOLDER/timm", pretrained=True)``), a transformers one ``hf/``
    (``AutoModel.from_pretrained("FOLDER/hf")``). Each file appears whole or not at all; ``model.json`` comes last, so that a folder with it is complete.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _whole(folder / "model.safetensors", lambda path: save_file(plain_weights(student), path))
        if hasattr(student.modality, "tokenizer"):
            _whole(folder / "tokenizer.json", lambda path: student.modality.tokenizer.save(str(path)))  # type: ignore[attr-defined]
        named.export(student, folder)
        description = {"format": FORMAT, "spec": student.spec, "classes": student.classes, "modality": student.modality.signature()}
        _whole(folder / "model.json", lambda path: path.write_text(json.dumps(description, indent=1)))
    except OSError as error:
        raise UserError(f"can not write the model to {folder}: {error.strerror or error}; free some space or choose another folder") from None


def load(folder: str | Path) -> Student:
    """The student saved in ``folder``, or in ``folder/model`` of a run, on the CPU and in evaluation mode.

    Raises UserError where there is none, where it is damaged, and for anything pickled: loading a pickle runs whatever code is in it.
    """
    folder = Path(folder)
    if folder.suffix in PICKLES:
        raise UserError(f"{folder} is a pickle, and loading it could run any code; convert it to safetensors where you trust it, and give that folder")
    if not (folder / "model.json").exists() and (folder / "model").is_dir():
        folder = folder / "model"
    if not (folder / "model.json").exists():
        refuse_pickles(folder, "model.safetensors")
        raise UserError(f"there is no saved model in {folder}: it has no model.json; give a run that has finished or the folder of a model")
    description = _description(folder)
    weights = read_weights(folder / "model.safetensors")
    modality = modalities.restore(description["modality"], folder)
    try:
        student = student_of(backbone_of(description["spec"], key=0, published=False), modality, description["classes"], description["spec"], key=0)
        student.load_state_dict(weights)
    except (RuntimeError, TypeError, KeyError) as error:
        raise UserError(f"the weights in {folder} do not fit its model.json ({str(error).splitlines()[0]}); the files come from different models") from None
    return student.eval()


def _description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / "model.json").read_text())
        version = description["format"]
        missing = {"spec", "classes", "modality"} - description.keys()
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{folder / 'model.json'} is not the description of a saved model") from None
    if version != FORMAT or missing:
        raise UserError(f"{folder / 'model.json'} was written by another version of understudy (format {version}, this one reads {FORMAT})")
    return description


def _whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside, reach the disk, rename."""
    beside = path.with_name(path.name + ".partial")
    try:
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
