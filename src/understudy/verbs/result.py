"""What a verb returns: JSON for programs, a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from understudy import models
from understudy.evaluate.metrics import Gain, Proportion
from understudy.models.student import Student
from understudy.report.page import duration, size
from understudy.report.record import Score
from understudy.report.verdict import percent, points, verdict


@dataclass
class Result:
    """An answer by name (``result.verdict`` is ``result.answer["verdict"]``), and how it is shown."""

    answer: dict[str, Any]
    folder: Path | None = None
    shown: list[RenderableType] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return self.answer

    def __rich__(self) -> RenderableType:
        return Group(*self.shown)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.answer:
            raise AttributeError(f"this result has no '{name}', it has {', '.join(self.__dict__.get('answer', {}))}")
        return self.answer[name]


class Trained(Result):
    """What a verb that trains returns: ``result.json`` and the model."""

    def __init__(self, answer: dict[str, Any], folder: Path):
        super().__init__(answer, folder)
        self._student: Student | None = None

    @property
    def student(self) -> Student:
        """The model, on the CPU and in evaluation mode."""
        if self._student is None:
            assert self.folder is not None, "who trains has a folder"
            self._student = models.load(self.folder)
        return self._student

    @property
    def accuracy(self) -> float | None:
        """Of the result on test data, in [0, 1]; None where there is none."""
        return None if self.answer["result"] is None else self.answer["result"]["test"]

    def __rich__(self) -> RenderableType:
        return Group(*_trained(self.answer))


def figure(value: Proportion | None, metric: str = "accuracy") -> dict[str, Any] | None:
    """A test figure as ``result.json`` has it."""
    return None if value is None else {"metric": metric, "test": value.value, "ci95": [value.low, value.high], "samples": value.n}


def gain_figure(gain: Gain | None) -> dict[str, Any] | None:
    """A paired gain as ``result.json`` has it."""
    return None if gain is None else {"value": gain.value, "ci95": [gain.low, gain.high]}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A plain table; all columns but the first are numbers."""
    made = Table(*columns, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in made.columns[1:]:
        column.justify = "right"
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def facts(pairs: Mapping[str, Any]) -> Table:
    """Names and values, one a line."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs.items():
        made.add_row(f"[bold]{escape(name)}[/bold]", escape(str(value)))
    return made


def _trained(answer: Mapping[str, Any]) -> list[RenderableType]:
    """``result.json`` for eyes."""
    parts: list[RenderableType] = [""]
    metric = (answer["result"] or {}).get("metric", "accuracy")
    columns, cells = [f"test {metric}"], ["95 % interval"]
    row = [metric]
    if answer["control"] is not None:
        columns, row, cells = [*columns, "control"], [*row, percent(answer["control"]["test"])], [*cells, _interval(answer["control"])]
    if answer["result"] is not None:
        columns, row, cells = [*columns, "understudy"], [*row, percent(answer["result"]["test"])], [*cells, _interval(answer["result"])]
    if answer.get("gain"):
        low, high = answer["gain"]["ci95"]
        columns, row, cells = [*columns, "gain, points"], [*row, points(answer["gain"]["value"])], [*cells, f"{points(low)} to {points(high)}"]
    if len(columns) > 1:
        parts.append(table(columns, [row, cells]))
    said = said_of(answer)
    parts += [escape(said), ""] if said else []
    if answer["stages"]:
        rows = [
            [s["name"], "" if s["val"] is None else percent(s["val"]), "kept" if s["kept"] else "dropped", duration(s["seconds"]), s.get("why", "")]
            for s in answer["stages"]
        ]
        made = table(["stage", "validation", "", "time", ""], rows)
        made.columns[-1].justify = "left"
        parts += [made, ""]
    shown = {"model": _model(answer), "time": duration(answer["seconds"])}
    shown |= {name: answer[name] for name in ("report", "predictions") if answer.get(name)}
    shown |= {"export": ", ".join(answer["export"])} if answer.get("export") else {}
    shown |= {"quarantine": f"{answer['quarantined']:,} samples could not be read"} if answer["quarantined"] else {}
    parts.append(facts({**shown, **{name: value for name, value in answer.get("figures", {}).items() if value is not None}}))
    parts += [escape(note) for note in answer.get("notes", ())]
    return parts


def said_of(answer: Mapping[str, Any]) -> str:
    """What the comparison with the control means, in words."""
    gain = answer.get("gain")
    if gain is None:
        return verdict(score(answer["control"]), score(answer["result"]))
    low, high = gain["ci95"]
    return verdict(score(answer["control"]), score(answer["result"]), Gain(gain["value"], low, high, answer["result"]["samples"]))


def score(found: Mapping[str, Any] | None) -> Score | None:
    """A test figure as the report has it."""
    if found is None:
        return None
    low, high = found["ci95"]
    return Score(found["metric"], found["test"], low, high, found["samples"])


def _interval(found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    return f"{percent(low)} to {percent(high)}"


def _model(answer: Mapping[str, Any]) -> str:
    speed = f", {answer['milliseconds']:.3g} ms a sample" if answer.get("milliseconds") else ""
    return f"{answer['student']}, {size(answer['parameters'], '')} parameters{speed}, in {answer['model']}"
