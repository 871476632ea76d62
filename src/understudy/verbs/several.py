"""``distill`` with several students: each as it would be alone, and the teacher asked once."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from understudy import systems
from understudy.errors import UserError
from understudy.report.page import duration, percent
from understudy.settings import parse_duration
from understudy.systems.base import Objective
from understudy.teachers.remembered import Memory
from understudy.verbs.result import Result, table
from understudy.verbs.session import Session, settings_of
from understudy.verbs.train import distilled


def several(students: Sequence[str], given: dict[str, Any], options: Any, takes: type) -> Result:
    """Distil into ``students`` one after another, in a folder each; a budget is shared out among them."""
    kind = systems.get(given["system"])
    if kind.card.family != "kd-logit" or not issubclass(kind, Objective):
        raise UserError(
            f"several students learn from one pass of a teacher's answers, and {given['system']} takes more than answers; distil into one after another"
        )
    if len(set(students)) < len(students):
        raise UserError("two of the students are the same; give each once")
    session = Session("distill", {**given, "student": list(students)}, options, takes, settings=settings_of(given["system"]), defaults=kind.defaults)
    share = None if given["budget"] is None else f"{parse_duration(given['budget']) / len(students):.1f}"
    memory = Memory()
    answers: list[dict[str, Any]] = []
    with session.writing() as run:
        for position, student in enumerate(students, 1):
            folder = run.folder / "stages" / f"student-{position}"
            done = folder / "result.json"
            if not done.exists():
                distilled({**given, "student": student, "budget": share}, {**options, "out": folder}, memory)
            answers.append(json.loads(done.read_text(encoding="utf-8")))
        kept = {
            "students": answers,
            "remembered_bytes": memory.used,
            "seconds": round(time.monotonic() - session.began, 2),
            "verb": "distill",
            "system": given["system"],
        }
        run.write("result.json", kept)
    return Result(kept, run.folder, [shown(kept)])


def shown(answer: Mapping[str, Any]) -> Table:
    """``result.json`` for eyes."""
    rows = [
        [
            a["student"],
            "" if a["result"] is None else percent(a["result"]["test"]),
            f"{a['fidelity']['agreement']:.1%}",
            duration(a["seconds"]),
            Path(a["model"]).parent,
        ]
        for a in answer["students"]
    ]
    return table(["student", "test accuracy", "as the teacher", "time", "run"], rows)
