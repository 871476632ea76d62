"""How a model's parameters are grouped for the optimiser."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

# Positions, masks and class tokens: learned inputs, not maps.
_UNDECAYED = re.compile(r"(^|\.)(bias|mask|registers|colour|places|absent|pos_embed|cls_token|reg_token|position_embeddings?(\.weight)?|mask_token)$")
_DEPTH = re.compile(r"(^|\.)(blocks|layers?|stages)\.(\d+)\.")


def decay_groups(module: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: ``weight_decay`` for matrices and kernels, none for vectors (biases, norms) and learned positions and masks.

    ``layer_decay`` below 1 makes deeper layers faster than shallow ones: the rate of block i of a backbone with n blocks is multiplied by
    ``layer_decay ** (n - i)``, that of what lies before the blocks by ``layer_decay ** (n + 1)``, heads stay (BEiT, arXiv 2106.08254). It is the group's
    ``lr_scale``. Frozen parameters are left out.
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    depth = 1 + max((int(found[3]) for name, _ in named if (found := _DEPTH.search(name)) and "backbone." in name), default=-1)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in named:
        decay = 0.0 if parameter.ndim <= 1 or _UNDECAYED.search(name) else weight_decay
        below = 0
        if "backbone." in name and not re.search(r"backbone\.(model\.)?(norm|layernorm|fc_norm)\.", name):
            found = _DEPTH.search(name)
            below = depth - int(found[3]) if found else depth + 1
        scale = layer_decay**below
        groups.setdefault((decay, scale), {"params": [], "weight_decay": decay, "lr_scale": scale})["params"].append(parameter)
    return list(groups.values())
