"""Checkpoints: written beside, fsynced, renamed. Everything in them is safetensors and JSON; nothing is ever unpickled.

Tensors are kept whole (gathered where they are sharded), so a run continues on another number of processes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from understudy import collective
from understudy.engine.run import sync_folder, write_atomically
from understudy.errors import UserError

_EVERYWHERE = StateDictOptions(full_state_dict=True)
_PARTLY = StateDictOptions(full_state_dict=True, strict=False)  # parameters that have had no gradient have no state
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)  # which the first process alone receives


def folders(where: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(p for p in where.glob("step-*") if (p / "state.json").exists())


def save(where: Path, step: int, module: nn.Module, optimizer: Optimizer, facts: dict[str, Any], keep: int) -> None:
    """Save ``module`` and ``optimizer`` as they are before ``step``; of older checkpoints the last ``keep`` stay.

    Raises UserError where the disk refuses; the last checkpoint then stands.
    """
    tensors = {f"model/{name}": value for name, value in get_model_state_dict(module, options=_WHOLE).items()}
    # Asked for its state, an optimiser that has none yet is made to take a step, and counts it from then on: its first real one would be too short.
    states: Any = get_optimizer_state_dict(module, optimizer, options=_WHOLE).get("state", {}) if optimizer.state else {}
    for name, state in states.items():
        tensors |= {f"optimizer/{name}/{key}": torch.as_tensor(value) for key, value in state.items() if value is not None}
    if collective.rank() == 0:
        try:
            _write(where, step, tensors, facts, keep)
        except (OSError, SafetensorError) as problem:  # the library that writes tensors says it in its own way
            reason = getattr(problem, "strerror", None) or str(problem)
            raise UserError(
                f"cannot write a checkpoint to {where}: {reason}; make room or give permission, then go on from the last one with understudy resume RUN"
            ) from problem
    collective.barrier()


def _write(where: Path, step: int, tensors: Mapping[str, Any], facts: Mapping[str, Any], keep: int) -> None:
    final = where / f"step-{step:09d}"
    partial = where / f".step-{step:09d}.{os.getpid()}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # Clones: safetensors refuses tensors that share memory, as tied weights do.
        save_file({name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}, partial / "state.safetensors")
        (partial / "state.json").write_text(json.dumps({"step": step, **facts}))
        for file in partial.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        _remove(final)
        os.replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(where)
    for old in folders(where)[:-keep]:
        _remove(old)
    for leftover in where.glob(".step-*.part"):
        shutil.rmtree(leftover, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Delete a checkpoint so that it is whole or gone at any instant, never half there."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.old.part")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def amend(where: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Replace the facts of the checkpoint before ``step``, atomically; its tensors stay."""
    if collective.rank() == 0:
        write_atomically(where / f"step-{step:09d}" / "state.json", json.dumps({"step": step, **facts}))
    collective.barrier()


def restore(where: Path, module: nn.Module, optimizer: Optimizer) -> dict[str, Any] | None:
    """Load the newest checkpoint into ``module`` and ``optimizer``; returns its facts, or None where there is none."""
    found = folders(where)
    if not found:
        return None
    tensors = load_file(found[-1] / "state.safetensors")
    set_model_state_dict(module, {name.removeprefix("model/"): value for name, value in tensors.items() if name.startswith("model/")}, options=_EVERYWHERE)
    state: dict[str, Any] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            owner, key = name.removeprefix("optimizer/").rsplit("/", 1)
            state.setdefault(owner, {})[key] = value
    if state:
        groups = get_optimizer_state_dict(module, optimizer, options=_EVERYWHERE)["param_groups"]
        set_optimizer_state_dict(module, optimizer, {"state": state, "param_groups": groups}, options=_PARTLY)
        for parameter, own in optimizer.state.items():
            # Fused kernels walk parameter and state in step, so what was saved contiguously must lie in memory as the parameter does.
            own.update(
                {
                    k: torch.empty_like(parameter, dtype=v.dtype).copy_(v)
                    for k, v in own.items()
                    if v.shape == parameter.shape and v.stride() != parameter.stride()
                }
            )
    for name, parameter in module.named_parameters():
        if name not in state:  # it had received no gradient yet
            optimizer.state.pop(parameter, None)
    facts: dict[str, Any] = json.loads((found[-1] / "state.json").read_text())
    return facts
