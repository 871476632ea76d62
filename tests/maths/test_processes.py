"""Coupled formulas on two processes with half the batch each equal one process with the whole: values and, summed over processes, gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from understudy import keyed, maths

COUPLED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: maths.nt_xent(a, b, 0.2),
    "info_nce": lambda a, b: maths.info_nce((a, b, a * b), 0.1),
    "koleo": lambda a, b: maths.koleo(a) + maths.koleo(b),
    "matched_pairs": lambda a, b: maths.matched_pairs(a, b, 5.0),
    "mimicked_pairs": lambda a, b: maths.mimicked_pairs(a, b, 5.0, teacher=(b.tanh(), b), teacher_scale=3.0),
    "barlow": maths.barlow,
}
PER_SAMPLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sinkhorn": lambda a, b: maths.sinkhorn_knopp(a, 0.5),
    "sharpen": lambda a, b: maths.sharpen(a.softmax(-1)),
    "centre": lambda a, b: maths.updated_centre(torch.zeros(6, dtype=a.dtype), a).expand(len(a), -1),
    "uskd": lambda a, b: maths.uskd(student_logits=a, weak_logits=b, labels=torch.arange(len(a)) % 2),
}


def results(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    found = {name: function(a, b).detach() for name, function in PER_SAMPLE.items()}
    for name, function in COUPLED.items():
        own = a.detach().clone().requires_grad_()
        loss = function(own, b)
        loss.backward()
        found |= {name: loss.detach(), f"{name} gradient": own.grad}
    return found


def batch() -> tuple[Tensor, Tensor]:
    return keyed.normal(1, (8, 6)).double(), keyed.normal(2, (8, 6)).double()


def one_of_two(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    a, b = (x[rank * 4 : rank * 4 + 4] for x in batch())
    torch.save(results(a, b), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    # This file run as a script is one process, so that no module needs to be found by name.
    processes = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "1"}) for rank in range(2)]
    assert [p.wait(60) for p in processes] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, whole in results(*batch()).items():
        halves = torch.cat([p[name] for p in parts]) if whole.dim() else parts[0][name]
        torch.testing.assert_close(halves, whole, msg=lambda m, name=name: f"{name}: {m}")
        assert whole.dim() or torch.equal(parts[0][name], parts[1][name])


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), Path(sys.argv[2]))
