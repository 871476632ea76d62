"""Low-rank adapters (LoRA, arXiv 2106.09685) through peft (extra ``text``): a model stays as it is and learns a small difference."""

from __future__ import annotations

from typing import Any

from torch import nn

from understudy.errors import MissingExtra


def adapt(module: nn.Module, rank: int) -> None:
    """Put an adapter of ``rank`` beside every linear layer inside ``module``, in place; what was there stops learning.

    The difference starts at zero and is scaled by 2 (alpha = 2 rank). Raises MissingExtra without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtra("text", "low-rank adapters") from None
    # GPT-2's layers are linear under another name.
    layers = sorted({name for name, layer in module.named_modules() if isinstance(layer, nn.Linear) or type(layer).__name__ == "Conv1D"})
    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers), module)


def merge(module: nn.Module) -> None:
    """Add every adapter inside ``module`` to its layer and take it away, in place."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            adapted: Any = child
            if hasattr(adapted, "get_base_layer") and hasattr(adapted, "merge"):
                adapted.merge()
                setattr(parent, name, adapted.get_base_layer())
