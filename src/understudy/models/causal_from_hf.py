"""Language models of transformers as policies (extra ``text``), whole: with their own head and whatever they do to its logits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from understudy.data.modalities import GenerationModality
from understudy.data.samples import Inputs
from understudy.errors import UserError
from understudy.models.adapters import adapt, merge
from understudy.models.backbone import Backbone, Features, pooled_mean
from understudy.models.causal import CausalBackbone
from understudy.models.from_hf import library, model_of, tokenizer
from understudy.models.named import folder_of
from understudy.models.predict import evaluating
from understudy.models.student import Student


def describe(name: str, modality: Any, pretrained: bool = True, lora: int = 0) -> dict[str, Any]:
    """See ``named.describe``; ``lora`` is the rank of adapters, 0 for none."""
    folder = folder_of(name, name)
    transformers = library()
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is no transformers model ({str(error).splitlines()[0]})") from None
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING or config.is_encoder_decoder:
        raise UserError(f"hf:{name} ({config.model_type}) does not write from left to right; choose a causal language model such as GPT-2, Llama or Qwen")
    length = min(modality.length, getattr(config, "max_position_embeddings", modality.length))
    described = {"model": json.loads(config.to_json_string(use_diff=False))}
    return {"name": f"hf:{name}", "shape": {"length": length}, "options": {"pretrained": pretrained, "lora": lora}, "config": described}


def modality(name: str, length: int) -> GenerationModality:
    """Prompts and answers in the tokens of this model."""
    return GenerationModality.from_hf(tokenizer(name), length)


def build(name: str, spec: dict[str, Any], published: bool) -> Backbone:
    """See ``named.build``."""
    return HfCausal(model_of("AutoModelForCausalLM", name, spec, published), spec["shape"]["length"], spec["options"]["lora"])


class HfCausal(CausalBackbone):
    """A causal model of transformers. Pooled is the mean of its last hidden states."""

    def __init__(self, model: Any, length: int, lora: int = 0):
        super().__init__()
        self.model = model
        self.length = length
        self.width = self.token_width = model.config.hidden_size
        self._linear: bool | None = None
        if lora:
            head = model.get_output_embeddings()
            model.requires_grad_(False)
            adapt(model.base_model, lora)
            head.requires_grad_(False)

    def _ask(self, inputs: Inputs, model: Any = None, **options: Any) -> Any:
        look = ~inputs["padding"]
        places = (look.cumsum(1) - 1).clamp_min(0)
        return (model or self.model)(input_ids=inputs["tokens"], attention_mask=look.long(), position_ids=places, use_cache=False, **options)

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        self.refuse_mask(masked)
        tokens = self._ask(inputs, output_hidden_states=True).hidden_states[-1]
        return Features(pooled_mean(tokens, inputs["padding"]), tokens, inputs["padding"])

    def states(self, inputs: Inputs) -> Tensor:
        return self._ask(inputs, self.model.base_model).last_hidden_state  # type: ignore[no-any-return]

    @property
    def head(self) -> nn.Linear | None:
        """Whether the model caps or scales its logits is found out once, from two tokens."""
        head = self.model.get_output_embeddings()
        if self._linear is None:
            two = {"tokens": torch.tensor([[0, 1]], device=head.weight.device), "padding": torch.zeros(1, 2, dtype=torch.bool, device=head.weight.device)}
            with evaluating(self):
                self._linear = type(head) is nn.Linear and torch.allclose(head(self.states(two)), self.logits(two), rtol=1e-3, atol=1e-3)
        return head if self._linear else None

    def logits(self, inputs: Inputs) -> Tensor:
        return self._ask(inputs).logits  # type: ignore[no-any-return]

    def read(self, tokens: Tensor, padding: Tensor, memory: object = None) -> tuple[Tensor, object]:
        look = ~padding
        places = (look.cumsum(1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        said = self.model(input_ids=tokens, attention_mask=look.long(), position_ids=places, past_key_values=memory, use_cache=True)
        return said.logits[:, -1], said.past_key_values


def export(student: Student, folder: Path) -> None:
    """Write the model as transformers keeps it, adapters merged, and the tokenizer beside it: ``AutoModelForCausalLM.from_pretrained(FOLDER)``."""
    model: Any = copy.deepcopy(student.backbone.model)
    with torch.no_grad():
        merge(model)
    model.save_pretrained(folder)
    modality: Any = student.modality
    names = {"eos_token": modality.tokenizer.id_to_token(modality.end), "pad_token": modality.tokenizer.id_to_token(modality.pad)}
    library().PreTrainedTokenizerFast(tokenizer_object=modality.tokenizer, **names).save_pretrained(folder)
