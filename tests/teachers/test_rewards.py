"""Checkers and judges, and the fence around code that nobody has read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from understudy.data.modalities import Exchange
from understudy.errors import UserError
from understudy.teachers.rewards import Checked, CheckFile, Exact, Graded, Judge, Reward, Verifier
from understudy.teachers.sandbox import Limits, execute, unshared

CHECK = """
import os, socket
asked = 0
def verify(prompt, answer, reference):
    global asked
    asked += 1
    if answer == "loop":
        while True: pass
    if answer == "fork":
        os.fork(); os.fork()
        while True: pass
    if answer == "memory": return len(bytearray(10**10))
    if answer == "network": socket.create_connection(("127.0.0.1", %d), timeout=2); return 1
    if answer == "disk":
        with open(%r, "w") as file: file.write("x" * 100)
        return 1
    if answer == "state": return asked
    if answer == "leave": os._exit(3)
    if answer == "print": print("score 1", flush=True); return 0
    if answer == "half": return 0.5
    return answer == reference
"""


@pytest.fixture
def check(tmp_path: Path) -> CheckFile:
    (tmp_path / "check.py").write_text(CHECK % (9, str(tmp_path / "written")))
    return CheckFile(tmp_path / "check.py", Limits(seconds=0.5, megabytes=256))


def score(check: CheckFile, answer: str) -> float:
    return check([Exchange("p", "right")], [answer])[0]


def test_a_file_of_the_user_s_verifies(check: CheckFile) -> None:
    assert check([Exchange("p", "right")] * 3, ["right", "wrong", "half"]) == [1.0, 0.0, 0.5]
    assert check.right(Exchange("p", "x"), "x") and not check.right(Exchange("p"), "x")
    assert isinstance(check, Verifier) and isinstance(check, Reward) and not isinstance(check, Judge)


def test_what_takes_too_long_or_too_much_is_wrong_and_the_next_one_is_checked(check: CheckFile) -> None:
    began = time.monotonic()
    assert [score(check, answer) for answer in ("loop", "fork", "memory", "leave", "right")] == [0.0, 0.0, 0.0, 0.0, 1.0]
    assert time.monotonic() - began < 4
    assert sum(check.failures.values()) == 4 and any("MemoryError" in reason for reason in check.failures)


def test_no_call_changes_the_next_one(check: CheckFile) -> None:
    assert check([Exchange(p, "right") for p in "abc"], ["state"] * 3) == [1.0, 1.0, 1.0]
    assert score(check, "print") == 0.0 and score(check, "right") == 1.0, "what a call prints is no answer"


def test_it_writes_no_file(check: CheckFile, tmp_path: Path) -> None:
    assert score(check, "disk") == 0.0
    assert not (tmp_path / "written").exists() or (tmp_path / "written").read_text() == ""


@pytest.mark.skipif(not unshared(), reason="this system gives processes no network of their own")
def test_it_has_no_network(check: CheckFile) -> None:
    assert score(check, "network") == 0.0
    assert any("unreachable" in reason for reason in check.failures)
    said = execute("import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)")
    assert said.code != 0 and "unreachable" in said.errors, "not even to this machine"


def test_a_file_that_is_wrong_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no verifier"):
        CheckFile(tmp_path / "none.py")
    (tmp_path / "bad.py").write_text("def check(a): return 1")
    with pytest.raises(UserError, match="needs a function verify"):
        score(CheckFile(tmp_path / "bad.py"), "x")
    (tmp_path / "raises.py").write_text("def verify(prompt, answer, reference): return nothing")
    raising = CheckFile(tmp_path / "raises.py")
    with pytest.raises(UserError, match="failed on each of the first 120 answers, last with NameError"):
        raising([Exchange("p")] * 120, [str(i) for i in range(120)])


def test_programs_run_on_their_own(tmp_path: Path) -> None:
    assert execute("print(input()[::-1])", "abc\n").output == "cba\n"
    assert execute("import sys; sys.exit(3)").code == 3
    assert execute("while True: pass", limits=Limits(0.3)).code is None
    assert "MemoryError" in execute("x = bytearray(10**10)", limits=Limits(5, 128)).errors
    assert execute("import os; print(len(os.listdir('.')), os.environ.get('HOME'))").output == "0 None\n"
    spawning = "import subprocess; subprocess.Popen(['sleep', '60']); print('x', flush=True)\nwhile True: pass"
    began = time.monotonic()
    assert execute(spawning, limits=Limits(0.5)).output == "x\n" and time.monotonic() - began < 5, "children end with it"
    assert os.listdir(tmp_path) == []


def test_exact_and_checked() -> None:
    exchanges = [Exchange("1+1=", "2"), Exchange("1+1=")]
    assert Exact()(exchanges, [" 2\n", "2"]) == [1.0, 0.0], "where no answer is known nothing is right"
    assert Checked(lambda prompt, answer: prompt == answer)(exchanges, ["1+1=", "x"]) == [1.0, 0.0]


class Says:
    """Writes what it was told to."""

    fingerprint = "says"

    def __init__(self, *said: str):
        self.said, self.asked = list(said), [""]

    def __call__(self, prompts: Sequence[str], keys: torch.Tensor) -> list[str]:
        self.asked = list(prompts)
        return self.said


def test_a_judge_s_last_number_counts_and_nonsense_counts_as_nothing() -> None:
    writer = Says("3 points of 5, or rather\nScore: 4", "Score: 5", "no idea", "Score: 11")
    judge = Graded(writer)
    assert judge([Exchange("{answer}?")] * 4, ["a", "b", "c", "d"]) == [0.8, 1.0, 0.0, 0.0]
    assert judge.unparsed == 2 and isinstance(judge, Judge) and not isinstance(judge, Verifier)
    assert "Answer:\nb\n" in writer.asked[1]
