"""One run on several processes: what torchrun started, wrapped by DDP or by FSDP2."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from understudy import collective
from understudy.errors import UserError


def start(device: str = "auto") -> torch.device:
    """Join the processes that torchrun started, if it did, and return the device of this one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device '{device}'; use auto, cpu, cuda or cuda:N") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for but torch sees no CUDA device; use --set device=cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if chosen.type == "cuda" and chosen.index is None:
            chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(chosen)
        if not dist.is_initialized():
            # torchrun's store outlives the processes that it starts again, and with it the addresses of those that are gone.
            store, rank, world = next(dist.rendezvous("env://"))
            attempt = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
            dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", store=attempt, rank=rank, world_size=world)
    return chosen


def gather(objective: nn.Module) -> None:
    """Let every process hold all weights again that ``wrap`` sharded: what training leaves behind is used as a whole."""
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.unshard()


def wrap(objective: nn.Module, how: str) -> nn.Module:
    """``objective`` as the processes train it: itself on one, DDP or FSDP2 on several (``auto`` is DDP)."""
    if collective.world() == 1:
        return objective
    if how == "fsdp":
        # FSDP cuts contiguous weights only, and those of convolutions lie channels last.
        for parameter in objective.parameters():
            parameter.data = parameter.data.contiguous()
        # Weights stay gathered from forward to backward: where a loss reads a layer inside a block and not what the block returns, FSDP would not know
        # that the backward pass needs them again. Gradients and the optimiser's state, the larger part, are sharded all the time.
        for module in list(objective.modules()):
            for block in getattr(module, "blocks", ()):
                fully_shard(block, reshard_after_forward=False)
        fully_shard(objective)
        return objective
    # Buffers follow from global statistics and are equal on all processes already. Some objectives leave parameters without a gradient in some steps.
    return DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)
