"""Our training loop and those of peers in turns: a block of steps of ours, then one of each peer, and again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.peers import Peer
from understudy.engine.run import Listener


class Turns(Listener):
    """Seconds of every block, ours and each peer's; the first block of all warms up and is left out."""

    def __init__(self, peers: Mapping[str, Peer], steps: int):
        self.peers, self.steps = peers, steps
        self.ours: list[float] = []
        self.theirs: dict[str, list[float]] = {name: [] for name in peers}
        self.warm = False
        self.since = time.perf_counter()

    def progress(self, done: int, total: int, **facts: Any) -> None:
        if done % self.steps:
            return
        ours = time.perf_counter() - self.since
        theirs = {name: peer.ask(name, steps=self.steps) for name, peer in self.peers.items()}
        if self.warm:
            self.ours.append(ours)
            for name, seconds in theirs.items():
                self.theirs[name].append(seconds)
        self.warm = True
        self.since = time.perf_counter()
