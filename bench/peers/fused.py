"""Liger-Kernel's chunked loss and TRL's GKD loss: one pass, forward and backward, of the ways in ``bench.fused``."""

from __future__ import annotations

from bench import fused
from bench.peers.serving import serve, settings


def main() -> None:
    given = settings()
    x = fused.given(given["shape"])
    for name in ("liger", "trl"):
        fused.check(name, "plain", x)
    serve(lambda contestant: fused.once(fused.WAYS[contestant], x)[0], "torch", "liger-kernel", "trl")


if __name__ == "__main__":
    main()
