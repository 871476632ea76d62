"""A linear map to a vocabulary and the Jensen-Shannon divergence over it, forward and backward, on small shapes on the CPU; with stored top-k labels ``topk_kl``.

Peers: plain torch, Liger-Kernel's chunked loss and TRL's GKD loss. Before anything is timed all give the same loss and gradients. Time is processor time on one thread;
memory is what a pass adds to a fresh process's peak, over that of plain torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import torch

from bench import Line, fused, line
from bench.peers import ROOT, VARIABLE, Peer

SHAPE, QUICK = "512x256x32000", "256x128x16000"


def measure(part: str, quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    shape, repeats = (QUICK, 2) if quick else (SHAPE, 7)
    x = fused.given(shape)
    for kind, ours, plain in (("jsd", "understudy", "plain"), ("topk", "understudy-topk", "plain-topk")):
        if part in ("", kind):
            fused.check(ours, plain, x)
            ratios = [fused.once(fused.WAYS[ours], x)[0] / fused.once(fused.WAYS[plain], x)[0] for _ in range(repeats)]
            yield line(f"fused/{kind}-plain", ratios, f"x plain torch, {shape}", 1, "PyTorch", torch.__version__)
            yield line(f"fused/{kind}-memory", [peak(ours, shape) / peak(plain, shape)], f"x plain torch, {shape}", 0.5, "PyTorch", torch.__version__)
    if part in ("", "peers") and (part or VARIABLE in os.environ):
        with Peer("fused", 1, shape=shape) as peer:
            for name, library in (("liger", "liger-kernel"), ("trl", "trl")):
                ratios = [fused.once(fused.WAYS["understudy"], x)[0] / peer.ask(name) for _ in range(min(repeats, 4))]
                yield line(f"fused/jsd-{name}", ratios, f"x {library}, {shape}", 1, library, peer.versions[library])


def peak(name: str, shape: str) -> int:
    """Bytes that a pass adds to a fresh process."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return int(subprocess.run([sys.executable, "-m", "bench.fused", name, shape], capture_output=True, text=True, check=True, env=environment).stdout)
