"""Everything a report shows, as data: so that the page can be rebuilt without the samples, the models or a GPU."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from understudy.engine.run import write_atomically
from understudy.errors import UserError

Panel = np.ndarray | str | dict[str, str]
"""What one sample looks like: uint8 ``[H, W, 3]`` or ``[H, W]``, a text, or a row of a table."""


@dataclass(frozen=True)
class Score:
    """One test figure in [0, 1] with its 95 % interval over ``n`` samples."""

    metric: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Stage:
    """What one stage of the plan gave."""

    name: str
    validation: float | None
    kept: bool
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class ModelFacts:
    """Size and speed of one model, as ``evaluate.size_and_speed`` measures them."""

    name: str
    parameters: int
    bytes: int
    milliseconds: float
    """Per sample, in batches."""


@dataclass(frozen=True)
class EmbeddingMap:
    """Where samples lie in the embedding; build it with ``embedding.place``."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    points: np.ndarray
    """float32 ``[N, 2]``."""
    labels: np.ndarray
    """int64 ``[N]``: label, true or pseudo; -1 where there is none."""
    confidence: np.ndarray | None = None
    """float32 ``[N]`` in [0, 1]: trust in the pseudo-label, NaN where the label was given."""
    method: str = ""


@dataclass(frozen=True)
class CoverageCurve:
    """Accuracy of the pseudo-labels when only the most trusted share is kept."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    name: str
    coverage: np.ndarray
    """float ``[K]``, rising to 1."""
    accuracy: np.ndarray
    """float ``[K]``."""
    chosen: float | None = None
    """The coverage that the run used."""


@dataclass(frozen=True)
class Exhibit:
    """One sample in a gallery: one panel, or several side by side."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    panels: list[Panel]
    caption: str = ""
    note: str = ""
    verdict: bool | None = None
    """Right, wrong or unknown: marks the caption."""


@dataclass(frozen=True)
class Gallery:
    """Samples shown together, with the question they answer."""

    title: str
    explanation: str
    exhibits: list[Exhibit]
    columns: list[str] = field(default_factory=list)
    """Names of the panels of every exhibit, where there are several."""


@dataclass(frozen=True)
class ReportRecord:
    """All that is known about a run; what is None or empty is left out of the page."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    title: str
    task: str
    seed: int
    command: str
    seconds: float
    control: Score | None = None
    result: Score | None = None
    test_origin: str = ""
    """Where the test samples come from, such as "--test, looked at once" or "20 % of the labels, held out"."""
    control_meaning: str = ""
    """What the control is, such as "the same student trained on the labels alone, with the same augmentation and time"."""
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader must see: what was dropped, what was not possible."""
    found: list[str] = field(default_factory=list)
    """Sentences about what was found in the data: samples, labels, classes, sizes, duplicates."""
    stages: list[Stage] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    truth: np.ndarray | None = None
    """int64 ``[N]``: labels of the test samples, -1 where unknown."""
    control_probabilities: np.ndarray | None = None
    """float32 ``[N, C]`` on the same test samples, before temperature."""
    result_probabilities: np.ndarray | None = None
    temperature: float | None = None
    """Of the result, fitted on validation."""
    embedding: EmbeddingMap | None = None
    coverage: list[CoverageCurve] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    models: list[ModelFacts] = field(default_factory=list)
    device: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


_ARRAY = "$array"
_RECORD = TypeAdapter(ReportRecord)


def _without_arrays(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        name = str(len(arrays))
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, dict):
        return {str(k): _without_arrays(v, arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(v, arrays) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _with_arrays(value: Any, arrays: Any) -> Any:
    if isinstance(value, dict):
        return arrays[value[_ARRAY]] if list(value) == [_ARRAY] else {k: _with_arrays(v, arrays) for k, v in value.items()}
    return [_with_arrays(v, arrays) for v in value] if isinstance(value, list) else value


def _fields(value: Any) -> Any:
    """Like dataclasses.asdict, which would copy every array."""
    if dataclasses.is_dataclass(value):
        return {f.name: _fields(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_fields(v) for v in value] if isinstance(value, list) else value


def save(record: ReportRecord, folder: Path) -> None:
    """Write ``record.json`` and ``arrays.npz`` (nothing pickled). The JSON comes last, so a record that can be read is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_without_arrays(_fields(record), arrays), indent=1, ensure_ascii=False, default=str)
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    write_atomically(folder / "arrays.npz", packed.getvalue())
    write_atomically(folder / "record.json", text.encode("utf-8", "replace"))


def load(folder: Path) -> ReportRecord:
    """Read what ``save`` wrote. Raises ``UserError`` where it is missing or damaged."""
    try:
        tree = json.loads((folder / "record.json").read_text("utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            return _RECORD.validate_python(_with_arrays(tree, arrays))
    except FileNotFoundError as error:
        raise UserError(f"no report data in {folder}: is this the folder of a finished run?") from error
    except (ValidationError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise UserError(f"the report data in {folder} are damaged or from another version; run the verb that made them again") from error
