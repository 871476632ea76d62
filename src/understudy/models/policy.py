"""A language model as a student: it says how likely an answer is, and writes answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from understudy import collective, keyed, maths
from understudy.data.modalities.generation import GenerationModality
from understudy.data.samples import Inputs, Modality
from understudy.models.backbone import Backbone
from understudy.models.causal import CausalBackbone
from understudy.models.detection import Detector
from understudy.models.predict import evaluating
from understudy.models.quantization import Bits, quantise
from understudy.models.segmentation import Segmenter
from understudy.models.student import Student
from understudy.models.unet import BoxNet, UNet


class Policy(Student):
    """A student whose backbone writes. It has no classes: what it says about a position is a distribution over the next token."""

    backbone: CausalBackbone
    modality: GenerationModality

    def __init__(self, backbone: Backbone, modality: Modality, classes: Sequence[str], spec: dict[str, Any], key: int):
        super().__init__(backbone, modality, (), spec, key)
        if "bits" in spec:
            quantise(backbone, Bits(**spec["bits"]), spec["shape"]["vocabulary"])

    def with_head(self, classes: Sequence[str], key: int) -> Policy:
        """A copy: the head of a language model is part of it."""
        return self.clone()  # type: ignore[return-value]

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits ``[B, L, V]`` of what follows each position."""
        return self.backbone.logits(inputs)

    def token_log_probabilities(self, inputs: Inputs) -> Tensor:
        """log p of every token given those before it, ``[B, L]``; 0 at the first place."""
        return maths.token_log_probabilities(self(inputs), inputs["tokens"])

    def log_probability(self, inputs: Inputs) -> Tensor:
        """log p of each answer, its end included, given its prompt: ``[B]``."""
        return maths.masked_sum(self.token_log_probabilities(inputs), inputs["answer"])

    @torch.no_grad()
    def write(
        self, prompts: Inputs, keys: Tensor, *, longest: int | None = None, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0, greedy: int = 0
    ) -> Tensor:
        """Answers int64 ``[B, A]`` to the view ``prompt`` of some samples, -1 after their end token; at most ``longest`` tokens, and what the model's length leaves.
        The first ``greedy`` tokens are the likeliest ones.

        The random number of each token belongs to its answer's key and its place, so an answer does not depend on the batch it is written in (but for logits
        that differ in their last bit from one batch size to another, where two tokens are as good as tied). No gradient, no dropout. Processes write together: all
        of them go on until the last answer of any has ended.
        """
        modality, tokens, padding = self.modality, prompts["tokens"], prompts["padding"]
        used = (~padding).sum(1)
        most = self.backbone.length if longest is None else min(longest, self.backbone.length)
        written: list[Tensor] = []
        ended = used >= self.backbone.length
        with evaluating(self):
            memory: object = None
            new = tokens
            for place in range(most):
                logits, memory = self.backbone.read(new, padding, memory)
                if modality.pad != modality.end:
                    logits[:, modality.pad] = -torch.inf  # it only fills up, and some models never learn so
                token = maths.next_token(logits, keyed.uniform(keyed.fold(keys, place)), temperature if place >= greedy else 0.0, top_p, top_k)
                written.append(token.masked_fill(ended, -1))
                ended = ended | (token == modality.end) | (used + place + 1 >= self.backbone.length)
                if not bool(collective.agree((~ended).any().float())):
                    break
                new = token.unsqueeze(1)
                padding = torch.cat([padding, torch.zeros_like(padding[:, :1])], 1)
        return torch.stack(written, 1)

    def quantised(self, bits: Bits) -> Policy:
        """A copy that computes with so many bits; saved and loaded, it still does."""
        return type(self)(self.clone().backbone, self.modality, (), {**self.spec, "bits": bits._asdict()}, key=0)

    def continued(self, prompts: Inputs, answers: Tensor) -> Inputs:
        """Prompts (the view ``prompt``) and answers written after them as the inputs of a ``plain`` view, padded in front and behind."""
        over = answers < 0
        padding = torch.cat([prompts["padding"], over], 1)
        answer = torch.cat([torch.zeros_like(prompts["padding"]), ~over], 1)
        return {"tokens": torch.cat([prompts["tokens"], answers.masked_fill(over, self.modality.pad)], 1), "padding": padding, "answer": answer}


def student_of(backbone: Backbone, modality: Modality, classes: Sequence[str], spec: dict[str, Any], key: int) -> Student:
    """The student around a backbone: a ``Policy`` where it writes, a ``Detector`` where it finds boxes, a ``Segmenter`` where it answers at every pixel."""
    kinds: dict[type[Backbone], type[Student]] = {CausalBackbone: Policy, BoxNet: Detector, UNet: Segmenter}  # type: ignore[type-abstract]
    kind = next((student for one, student in kinds.items() if isinstance(backbone, one)), Student)
    return kind(backbone, modality, classes, spec, key)
