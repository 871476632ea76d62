"""Who says what an answer is worth: a checker that knows, a model that judges, a file of the user's.

Every reward scores answers to prompts. A *verifier* knows: 1 is right, 0 is wrong. A *judge* is a model, and may err.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from understudy import keyed
from understudy.data.modalities.generation import Exchange
from understudy.errors import UserError
from understudy.teachers.base import digest
from understudy.teachers.sandbox import Limits, Worker
from understudy.teachers.writers import Writer


@runtime_checkable
class Reward(Protocol):
    """Scores answers; more is better."""

    @property
    def fingerprint(self) -> str:
        """Who this is."""
        ...

    def __call__(self, exchanges: Sequence[Exchange], answers: Sequence[str]) -> list[float]:
        """A score for every answer to the prompt of the exchange at its place, whose ``answer`` is the true one where that is known."""
        ...


@runtime_checkable
class Verifier(Reward, Protocol):
    """A reward that is 1 for what is right and 0 for what is not."""

    def right(self, exchange: Exchange, answer: str) -> bool: ...


@runtime_checkable
class Judge(Reward, Protocol):
    """A reward that a model gives."""

    def grade(self, said: str) -> float:
        """The score in what the model said about an answer."""
        ...


class Checked:
    """A verifier of a Python function that is trusted: ``right(prompt, answer)``, such as that of a kind of ``data.problems``."""

    def __init__(self, function: Callable[[str, str], bool], name: str = ""):
        self.function = function
        self.fingerprint = digest("checked", name or f"{function.__module__}.{function.__qualname__}")

    def right(self, exchange: Exchange, answer: str) -> bool:
        return bool(self.function(exchange.prompt, answer))

    def __call__(self, exchanges: Sequence[Exchange], answers: Sequence[str]) -> list[float]:
        return [float(self.right(exchange, answer)) for exchange, answer in zip(exchanges, answers, strict=True)]


class Exact:
    """A verifier that compares with the known answer, spaces at the ends aside; where none is known nothing is right."""

    fingerprint = digest("exact")

    def right(self, exchange: Exchange, answer: str) -> bool:
        return exchange.answer is not None and exchange.answer.strip() == answer.strip()

    def __call__(self, exchanges: Sequence[Exchange], answers: Sequence[str]) -> list[float]:
        return [float(self.right(exchange, answer)) for exchange, answer in zip(exchanges, answers, strict=True)]


_CHECKING = r"""
import contextlib, io, json, os, resource, select, signal, sys
path, seconds, megabytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
said = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
names = {"__name__": "check", "__file__": path}
exec(compile(open(path, encoding="utf-8").read(), path, "exec"), names)
verify = names["verify"]
for line in sys.stdin:
    question = json.loads(line)
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(mine)
        cpu = int(seconds) + 1
        for what, most in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_AS, megabytes << 20), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(what, (most, most))
        try:
            answer = {"score": float(verify(*question))}
        except BaseException as error:
            answer = {"error": type(error).__name__ + ": " + str(error)[:300]}
        os.write(theirs, json.dumps(answer).encode())
        os._exit(0)
    os.close(theirs)
    ready = select.select([mine], [], [], seconds)[0]
    answer = os.read(mine, 65536).decode() if ready else ""
    os.close(mine)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said.write((answer or json.dumps({"error": "no answer in %g seconds or %d MiB" % (seconds, megabytes)})) + "\n")
"""


class CheckFile:
    """A verifier in a file of the user's: a function ``verify(prompt, answer, reference)`` that returns whether the answer is right, or a score.

    ``reference`` is the known answer or None. The file runs in a process of its own without a network (``sandbox``), each call in a fork of it with ``limits``. A call that
    fails or takes too long scores 0, and is counted by its reason in ``failures``; where all of the first answers fail, a hundred or more, the file itself is wrong. The same
    question is asked once: models repeat themselves.
    """

    def __init__(self, path: str | Path, limits: Limits | None = None):
        """Raises UserError for a file that is not there, or has no function ``verify``."""
        self.path = Path(path).absolute()
        self.limits = limits or Limits()
        if not self.path.is_file():
            raise UserError(f"there is no verifier {path}; give a Python file with a function verify(prompt, answer, reference)")
        self.source = self.path.read_text(encoding="utf-8")
        self.fingerprint = digest("check file", self.source, self.limits.seconds, self.limits.megabytes)
        self.failures: dict[str, int] = {}
        self._known: dict[str, float] = {}
        self._worker = Worker(_CHECKING, [str(self.path)], self.limits)

    def right(self, exchange: Exchange, answer: str) -> bool:
        return self([exchange], [answer])[0] >= 1

    def __call__(self, exchanges: Sequence[Exchange], answers: Sequence[str]) -> list[float]:
        questions = [json.dumps([exchange.prompt, answer, exchange.answer]) for exchange, answer in zip(exchanges, answers, strict=True)]
        new = [question for question in dict.fromkeys(questions) if question not in self._known]
        self._known |= dict(zip(new, self._scores(new), strict=True))
        return [self._known[question] for question in questions]

    def _scores(self, questions: Sequence[str]) -> list[float]:
        said = self._worker.ask(questions)
        while None in said:  # the process was killed from outside, or can not be run at all
            done = said.index(None)
            again = self._worker.ask(questions[done:])
            if again[0] is None:
                raise UserError(f"{self.path} can not be run as a verifier; it needs a function verify(prompt, answer, reference) (see: python {self.path})")
            said = said[:done] + again
        found = [json.loads(answer or "") for answer in said]
        for reason in (one["error"] for one in found if "error" in one):
            self.failures[reason] = self.failures.get(reason, 0) + 1
        if not self._known and len(found) >= 100 and all("error" in one for one in found):
            raise UserError(f"{self.path} failed on each of the first {len(found)} answers, last with {found[-1]['error']}; mend its function verify")
        return [float(one.get("score", 0.0)) for one in found]


GRADE = (
    "Below are a question and an answer. Grade the answer from 0 (wrong or useless) to {most} (right and complete).\n\nQuestion:\n{prompt}\n\nAnswer:\n{answer}\n\n"
    "End with the line 'Score: N'.\nScore: "
)


class Graded:
    """A judge: somebody who writes is asked for a grade, and the last number of what is written, as a share of ``most``, is the score.

    The prompt is ours, in the manner of LLM-as-a-judge (2401.10020, figure 2). What has no number, or one out of range, scores 0 and is counted in ``unparsed``.
    """

    def __init__(self, writer: Writer, *, prompt: str = GRADE, most: int = 5):
        self.writer, self.prompt, self.most = writer, prompt, most
        self.unparsed = 0
        self.fingerprint = digest("graded", writer.fingerprint, prompt, most)

    def grade(self, said: str) -> float:
        numbers = re.findall(r"-?\d+(?:\.\d+)?", said)
        value = float(numbers[-1]) if numbers else -1.0
        if not 0 <= value <= self.most:
            self.unparsed += 1
            return 0.0
        return value / self.most

    def __call__(self, exchanges: Sequence[Exchange], answers: Sequence[str]) -> list[float]:
        filled = [
            self.prompt.replace("{most}", str(self.most)).replace("{prompt}", exchange.prompt).replace("{answer}", answer)
            for exchange, answer in zip(exchanges, answers, strict=True)
        ]
        keys = torch.tensor([keyed.of_text(prompt) for prompt in filled], dtype=torch.int64)
        return [self.grade(said) for said in self.writer(filled, keys)]
