"""Running code that nobody has read: in a process of its own, without a network where the system allows that, with little time and memory.

This keeps mistakes and greed of written programs away from the run. It is no prison: a process can still read what its user can read.
"""

from __future__ import annotations

import functools
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_AHEAD = 64
"""Questions that a worker is sent at once; its answers to them must fit into a pipe, 64 KiB."""


@dataclass(frozen=True)
class Limits:
    """What a process may use."""

    seconds: float = 5.0
    """Of wall clock; of processor time the next whole second."""
    megabytes: int = 512
    """Of address space."""

    def impose(self) -> None:
        """Bind this process, from now on. It can write no file."""
        bytes_ = self.megabytes << 20
        resource.setrlimit(resource.RLIMIT_AS, (bytes_, bytes_))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        cpu = int(self.seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))


@dataclass(frozen=True)
class Finished:
    """What a program did."""

    output: str
    errors: str
    code: int | None
    """Its exit code; None where it was stopped because its time was over."""


@functools.cache
def unshared() -> tuple[str, ...]:
    """The command that takes the network away from what follows it; empty where the system does not let us."""
    command = ("unshare", "--map-root-user", "--net", "--")
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ()
    return command


def execute(source: str, given: str = "", limits: Limits | None = None, longest: int = 65536) -> Finished:
    """Run ``source`` as a Python program of its own, with ``given`` on its standard input; at most ``longest`` characters of what it says are kept.

    It sees an empty folder, no environment and no site packages.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="understudy-program-") as folder:
        process = _start([sys.executable, "-I", "-S", "-c", source], folder, limits.impose)
        try:
            output, errors = process.communicate(given.encode(), timeout=limits.seconds)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            _end(process)
            output, errors = process.communicate()
            code = None
    return Finished(output.decode(errors="replace")[:longest], errors.decode(errors="replace")[:longest], code)


class Worker:
    """A Python file in a process of its own that answers lines with lines. Each line is answered by a fork of it, so that no question changes the next one.

    ``program`` is run with ``limits.seconds`` and ``limits.megabytes`` as its arguments; it must impose them on each fork itself.
    """

    def __init__(self, program: str, arguments: list[str], limits: Limits):
        self._command = [sys.executable, "-c", program, *arguments, str(limits.seconds), str(limits.megabytes)]
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, lines: Sequence[str]) -> list[str | None]:
        """The answer to each line, in order; from where the process died, or said nothing in twice its time, None."""
        if self._process is None or self._process.poll() is not None:
            self._process = _start(self._command, str(Path.cwd()), None)
        process, said = self._process, list[str | None]()
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        try:
            for start in range(0, len(lines), _AHEAD):
                part = lines[start : start + _AHEAD]
                process.stdin.write("".join(line + "\n" for line in part).encode())
                for _ in part:
                    ready = select.select([process.stdout], [], [], 2 * self._limits.seconds + 10)[0]
                    answer = process.stdout.readline().decode(errors="replace") if ready else ""
                    if not answer.endswith("\n"):
                        raise BrokenPipeError
                    said.append(answer[:-1])
        except BrokenPipeError:
            self.close()
        return said + [None] * (len(lines) - len(said))

    def close(self) -> str:
        """End the process; returns what it said on standard error."""
        if self._process is None:
            return ""
        _end(self._process)
        errors = self._process.communicate()[1].decode(errors="replace")
        self._process = None
        return errors

    def __del__(self) -> None:
        self.close()


def _start(command: list[str], folder: str, before: Callable[[], None] | None) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*unshared(), *command], 0, stdin=pipe, stdout=pipe, stderr=pipe, cwd=folder, env=environment, start_new_session=True, preexec_fn=before
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
