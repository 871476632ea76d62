"""The worker's side: settings from the command line, orders from standard input, answers on lines that begin with ``MARK``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import torch

from bench.peers import MARK


def settings() -> dict[str, Any]:
    """What this worker was started with; it keeps to as many processors as it was given."""
    given = json.loads(sys.argv[1])
    pin(given["cores"])
    return given


def pin(cores: int) -> None:
    """This process and its children on the first ``cores`` processors, with as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(cores))
    torch.set_num_threads(cores)


def say(answer: dict[str, Any]) -> None:
    print(MARK + json.dumps(answer), flush=True)


def orders(*packages: str) -> Iterator[dict[str, Any]]:
    """Says what versions it runs, then yields orders until there are no more."""
    say({name: version(name) for name in packages})
    for text in sys.stdin:
        yield json.loads(text)


def serve(block: Callable[..., float], *packages: str) -> None:
    """Answers every order with the seconds that ``block`` says it took."""
    for order in orders(*packages):
        say({"seconds": block(**order)})


class Pace:
    """Lets a peer's own training loop run in blocks: ``begin`` before it, ``step`` after each of its steps.

    Before it answers it waits until the peer's workers have filled their queues again, so that they do not work while others are measured.
    """

    def __init__(self, *packages: str):
        self.orders = orders(*packages)

    def begin(self) -> None:
        order = next(self.orders, None)
        if order is None:
            sys.exit()  # nobody asks any more
        self.left = int(order["steps"])
        self.start = time.perf_counter()

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            seconds = time.perf_counter() - self.start
            time.sleep(0.7)
            say({"seconds": seconds})
            self.begin()
