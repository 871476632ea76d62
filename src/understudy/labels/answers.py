"""What a language model wrote, line by line: prompt, answer, score, decision and round, so that every sample that was learned can be traced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from understudy import collective


@dataclass(frozen=True)
class Answer:
    """One answer of one round."""

    round: int
    id: str
    """Of the sample whose prompt it answers."""
    number: int
    """Which of the answers to that prompt."""
    prompt: str
    answer: str
    score: float | None = None
    """What the reward said; None where there is none."""
    decision: str = ""
    """``chosen``, ``rejected``, or empty where nothing was learned from it."""

    @property
    def name(self) -> str:
        """The id of the training sample made of it."""
        return f"{self.id}/round-{self.round}/{self.number}"


class AnswerStore:
    """The answers of one round in a JSON Lines file: appended to while they are written, replaced once as a whole when they have been decided on.

    A stop loses the answers of one batch at most, and a line that was cut short is written again.
    """

    def __init__(self, folder: Path, round: int):
        self.path = folder / f"round-{round}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[Answer]:
        """The answers that are there, in the order they were written in."""
        found = []
        for line in self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else ():
            try:
                found.append(Answer(**json.loads(line)))
            except (json.JSONDecodeError, TypeError):
                continue
        return found

    def append(self, answers: Iterable[Answer]) -> None:
        """Add answers; on the disk when this returns. Only the first process writes."""
        if collective.rank() == 0:
            with open(self.path, "a", encoding="utf-8") as file:
                # A line of its own even where a kill cut the last one short.
                file.write("".join("\n" + json.dumps(asdict(answer), ensure_ascii=False) for answer in answers))
                file.flush()
                os.fsync(file.fileno())

    def decide(self, answers: Sequence[Answer], decisions: dict[tuple[str, int], str]) -> None:
        """Replace the file by ``answers`` with what was decided about each (by id and number), atomically."""
        if collective.rank() == 0:
            decided = [replace(answer, decision=decisions.get((answer.id, answer.number), "")) for answer in answers]
            beside = self.path.with_suffix(".part")
            with open(beside, "w", encoding="utf-8") as file:
                file.write("".join(json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in decided))
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, self.path)
        collective.barrier()
