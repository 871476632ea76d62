"""Whose labels a store holds and of what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from understudy.errors import UserError

FORMAT = 2
"""Of stores written now: shards know runs of labels. Format 1, with key and number beside every label, is read and no longer written."""


class Manifest(BaseModel):
    """Whose labels these are and of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    teacher: str
    data: str
    view: dict[str, Any]
    codec: dict[str, Any]
    classes: tuple[str, ...]
    temperature: float
    data_size: int | None
    """Number of samples that are to be labelled, where known."""
    tokenizer: str | None = None
    """Digest of the tokenizer, where labels are of tokens: their number is then the place of the token in the text."""
    created: str
    version: str

    def identity(self) -> dict[str, Any]:
        """Everything that two stores of the same labels have in common."""
        return self.model_dump(mode="json", exclude={"created", "version"})


def read(folder: Path) -> Manifest:
    """The manifest in ``folder``. Raises UserError where there is none or it cannot be read."""
    path = folder / "manifest.json"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"there is no label store at {folder}: {path.name}: {error.strerror or error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path} is not the manifest of a label store: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}.") from error
    if not 1 <= manifest.format <= FORMAT:
        raise UserError(f"the label store at {folder} has format {manifest.format} and this version of understudy reads formats 1 to {FORMAT}.")
    return manifest


def same(folder: Path, standing: Manifest, wanted: Manifest) -> Manifest:
    """``standing``. Raises UserError where ``wanted`` is of other labels."""
    have, want = standing.identity(), wanted.identity()
    for name in have:
        if have[name] != want[name]:
            raise UserError(f"{folder} already holds labels with {name} {have[name]}, and these have {name} {want[name]}: choose another folder.")
    return standing


def plain(view: Mapping[str, Any]) -> dict[str, Any]:
    """The view as JSON gives it back: no tuples, seed and options always there."""
    return {"seed": 0, "options": {}, **json.loads(json.dumps(dict(view)))}


def package_version() -> str:
    """Of understudy, or "unknown" in a checkout that was never installed."""
    try:
        return version("understudy")
    except PackageNotFoundError:
        return "unknown"
