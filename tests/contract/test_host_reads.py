"""A step reads nothing back from the device: each such read would make a GPU wait for the CPU."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from understudy import systems
from understudy.data.modalities import crops
from understudy.engine.loop import Loop
from understudy.systems.base import Objective

_spec = spec_from_file_location("trying", Path(__file__).with_name("trying.py"))
assert _spec and _spec.loader
trying = module_from_spec(_spec)
_spec.loader.exec_module(trying)

OBJECTIVES = [slug for slug in systems.names() if issubclass(systems.get(slug), Objective)]
# What has to know something on the CPU, and why.
READS = {
    "multiview-mae": "how many groups of points a sample keeps is a shape (models.backbone.visible)",
    "alm": "texts are cut into chunks by two tokenizers",
    "gkd": "it writes until every answer has ended (models.policy.Policy.write)",
    "ferkd": "labels are looked up on disk by key",
    "mae": "how many patches a sample keeps is a shape (models.backbone.visible)",
    "sdfp-student": "MAE is a part of it",
    "flexpredict": "how many patches a sample keeps is a shape (models.backbone.visible)",
}
READING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")


class NoReads(TorchDispatchMode):
    """Refuses on any device the operators whose result, or its shape, the CPU has to know."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        by_mask = name in ("index", "index_put", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        assert not name.startswith(READING) and not by_mask, f"{name} reads from the device"
        return function(*args, **(kwargs or {}))


def loop(slug: str, folder: Path, **common: Any) -> Loop:
    objective = trying.built(slug, folder, common=common)
    made = Loop(objective, objective.samples(), objective.task.settings, objective.task.run)
    objective.steps = made.steps = 3
    objective.train()
    return made


@pytest.mark.parametrize("slug", [slug for slug in OBJECTIVES if slug not in READS])
def test_losses_read_nothing_back(slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On the CPU, where looking costs nothing, only the chosen images are blurred, and one_hot checks what it is given.
    monkeypatch.setattr(crops, "_near", lambda image: False)
    monkeypatch.setattr(torch.nn.functional, "one_hot", lambda labels, classes: (labels.unsqueeze(-1) == torch.arange(classes)).long())
    made = loop(slug, tmp_path)
    made.once(0)  # caches
    batches = made.batches(1, 0)
    made.objective.step = 1
    with NoReads():
        terms = made.objective(batches)
        sum(term.mean() for term in terms.values()).backward()
        with torch.no_grad():
            made.objective.after_step()


def test_a_read_is_noticed() -> None:
    x = torch.arange(3)
    for read in (lambda: int(x[0]), lambda: x.nonzero(), lambda: x[x > 1], lambda: bool((x > 1).any())):
        with pytest.raises(AssertionError, match="reads from the device"), NoReads():
            read()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("slug", [slug for slug in OBJECTIVES if slug not in READS])
def test_a_step_does_not_wait_for_the_device(slug: str, tmp_path: Path) -> None:
    made = loop(slug, tmp_path, device="cuda", **{"watch.action": "auto"})
    teacher = made.objective.task.teacher
    if teacher is not None:
        teacher.to(made.device)
    for step in range(2):  # caches, and the optimiser's state
        made.once(step)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        made.once(2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
