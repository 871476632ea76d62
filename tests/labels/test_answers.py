"""The lines that a language model wrote: nothing finished is lost, and decisions replace the file as a whole."""

from __future__ import annotations

import json
from pathlib import Path

from understudy.labels.answers import Answer, AnswerStore

LINES = [Answer(2, "row-1", n, "1+1=", said, score) for n, (said, score) in enumerate([("2", 1.0), ("3\n", 0.0), ("zwei …", None)])]


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, 2)
    store.append(LINES[:2])
    store.append(LINES[2:])
    assert AnswerStore(tmp_path, 2).read() == LINES and AnswerStore(tmp_path, 1).read() == []


def test_a_line_that_was_cut_short_is_left_out_and_the_next_one_stands(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, 2)
    store.append(LINES[:2])
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:-7])
    store.append(LINES[2:])
    assert store.read() == [LINES[0], LINES[2]]


def test_decisions(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, 2)
    store.append(LINES)
    store.decide(LINES, {("row-1", 0): "chosen", ("row-1", 1): "rejected"})
    assert [line.decision for line in store.read()] == ["chosen", "rejected", ""]
    lines = [json.loads(line) for line in store.path.read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"round": 2, "id": "row-1", "number": 0, "prompt": "1+1=", "answer": "2", "score": 1.0, "decision": "chosen"}
    assert list(tmp_path.iterdir()) == [store.path]


def test_names_tell_round_and_number() -> None:
    assert LINES[1].name == "row-1/round-2/1"
