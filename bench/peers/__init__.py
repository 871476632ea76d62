"""Peers in an environment of their own: a worker process that is told what to run and answers with how long it took."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

MARK = "@bench "
VARIABLE = "UNDERSTUDY_PEERS"
HOW = f"this row compares with other packages: make an environment for them (pip install -r bench/requirements.txt) and set {VARIABLE} to its python"
ROOT = Path(__file__).parents[2]


class Peer:
    """``bench/peers/NAME.py`` on the first ``cores`` processors, ``given`` as its settings. ``ask`` runs one block of one of its contestants."""

    def __init__(self, name: str, cores: int, **given: Any):
        python = os.environ.get(VARIABLE)
        if not python or not Path(python).exists():
            raise SystemExit(HOW)
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(cores)}
        command = [python, "-m", f"bench.peers.{name}", json.dumps({**given, "cores": cores})]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions: dict[str, str] = self._answer()

    def ask(self, contestant: str, **given: Any) -> float:
        """Seconds that a block of ``contestant`` took."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"contestant": contestant, **given}) + "\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        for text in self.process.stdout:
            if text.startswith(MARK):
                return json.loads(text.removeprefix(MARK))
        raise SystemExit("the peer's process ended; what it said is above")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)
