"""One pass, forward and backward, of a linear map to a vocabulary and a divergence: several ways to the same number and gradients, timed in turn.

``rows/fused.py`` times them, the peers' in a worker (``peers/fused.py``); ``python -m bench.fused NAME SHAPE`` says what memory a pass of one of them adds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import maths

Given = dict[str, Tensor]
BETA = 0.5


def given(shape: str) -> Given:
    """Hidden states and weights of a student and of a teacher twice as wide; ``shape`` is TOKENSxWIDTHxVOCABULARY."""
    n, d, v = map(int, shape.split("x"))
    generator = torch.Generator().manual_seed(0)
    drawn = {"h": (n, d), "w": (v, d), "th": (n, 2 * d), "tw": (v, 2 * d)}
    values = {name: torch.randn(size, generator=generator) * (size[-1] ** -0.5 if "w" in name else 2.0) for name, size in drawn.items()}
    values["h"].requires_grad_()
    values["w"].requires_grad_()
    top = (values["th"][:, :d] @ values["tw"][:, :d].T).softmax(-1).topk(min(50, v - 1))
    return {**values, "indices": top.indices, "probabilities": top.values}


def plain(x: Given) -> Tensor:
    log_q, log_p = (x["h"] @ x["w"].T).log_softmax(-1), (x["th"] @ x["tw"].T).log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0))
    return BETA * (F.kl_div(log_m, log_p, log_target=True, reduction="sum") + F.kl_div(log_m, log_q, log_target=True, reduction="sum"))


def understudy(x: Given) -> Tensor:
    return maths.fused_divergence(x["h"], x["w"], teacher_hidden=x["th"], teacher_weight=x["tw"], divergence="jsd", beta=BETA).sum()


def liger(x: Given) -> Tensor:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=BETA, compiled=False, chunk_size=256)
    labels = torch.zeros(len(x["h"]), dtype=torch.int64)
    found = loss(x["h"], x["w"], x["th"], x["tw"], labels)
    return (found[0] if isinstance(found, tuple) else found) * len(x["h"])


def trl(x: Given) -> Tensor:
    from trl.experimental.gkd import GKDTrainer

    return GKDTrainer.generalized_jsd_loss((x["h"] @ x["w"].T)[None], (x["th"] @ x["tw"].T)[None], beta=BETA, reduction="sum")


def plain_topk(x: Given) -> Tensor:
    return maths.topk_kl(indices=x["indices"], probabilities=x["probabilities"], student_logits=x["h"] @ x["w"].T, tail="uniform").sum()


def understudy_topk(x: Given) -> Tensor:
    return maths.fused_topk_kl(x["h"], x["w"], indices=x["indices"], probabilities=x["probabilities"], tail="uniform").sum()


WAYS: dict[str, Callable[[Given], Tensor]] = {
    "understudy": understudy, "plain": plain, "liger": liger, "trl": trl, "understudy-topk": understudy_topk, "plain-topk": plain_topk,
}  # fmt: skip


def once(way: Callable[[Given], Tensor], x: Given) -> tuple[float, float, Tensor, Tensor]:
    """Seconds of processor, the loss, and both gradients."""
    x["h"].grad = x["w"].grad = None
    start = time.process_time()
    loss = way(x)
    loss.backward()
    taken = time.process_time() - start
    assert x["h"].grad is not None and x["w"].grad is not None
    return taken, loss.item(), x["h"].grad, x["w"].grad


def check(name: str, other: str, x: Given) -> None:
    """The same number and the same gradients, or a comparison means nothing."""
    _, mine, *gradients = once(WAYS[name], x)
    _, theirs, *references = once(WAYS[other], x)
    assert abs(mine - theirs) < 1e-2 * abs(theirs), f"{name}: {mine}, {other}: {theirs}"
    for gradient, reference in zip(gradients, references, strict=True):
        assert (gradient - reference).norm() < 0.02 * reference.norm(), f"the gradients of {name} and {other} differ"


def main() -> None:
    """What one pass adds to this process at its peak, in bytes (Linux)."""
    torch.set_num_threads(1)
    name, shape = sys.argv[1:]
    once(WAYS[name], given("8x8x64"))
    x = given(shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    once(WAYS[name], x)
    print(memory("VmHWM") - before)


def memory(what: str) -> int:
    """Bytes that the system knows this process to hold now, or at most."""
    return next(1024 * int(row.split()[1]) for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(what))


if __name__ == "__main__":
    main()
