"""Language models: what writes one token after another, and the built-in small one."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.errors import UserError
from understudy.models.adapters import adapt
from understudy.models.backbone import Backbone, Features, pooled_mean
from understudy.models.transformer import Block, Memory, initialise


class CausalBackbone(Backbone):
    """A backbone whose every position sees only what stands before it, and which says what could come next.

    Inputs are ``tokens`` int64 ``[B, T]`` and ``padding`` bool ``[B, T]``, before or behind the text; places are counted without padding.
    """

    modality = "generation"
    patch = 1
    length: int
    """Most tokens of a text."""

    @abstractmethod
    def logits(self, inputs: Inputs) -> Tensor:
        """What could follow each position: ``[B, T, V]``."""

    @abstractmethod
    def states(self, inputs: Inputs) -> Tensor:
        """What the head reads at each position: ``[B, T, D]``."""

    @property
    @abstractmethod
    def head(self) -> nn.Linear | None:
        """What makes logits of states, where that is a linear map and nothing else; None where it is more."""

    @abstractmethod
    def read(self, tokens: Tensor, padding: Tensor, memory: object = None) -> tuple[Tensor, object]:
        """Read on: ``tokens`` ``[B, n]`` after those in ``memory``, ``padding`` bool ``[B, past + n]`` of all. Returns logits ``[B, V]`` of what comes next, and the memory."""

    def positions(self, inputs: Inputs) -> int:
        return inputs["tokens"].shape[1]

    def refuse_mask(self, masked: Tensor | None) -> None:
        """Raises UserError where positions are to be hidden."""
        if masked is not None:
            raise UserError("a language model that reads from left to right has nothing to hide tokens behind; choose a model of texts such as small-text")


class CausalTransformer(CausalBackbone):
    """Token and position embeddings, pre-norm blocks that look back, and a linear map to the vocabulary. Pooled is the mean of the tokens."""

    def __init__(self, vocabulary: int, length: int, width: int = 128, depth: int = 4, heads: int = 4, lora: int = 0):
        super().__init__()
        self.width = self.token_width = width
        self.length = length
        self.vocabulary = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.empty(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.words = nn.Linear(width, vocabulary, bias=False)
        self.apply(initialise)
        nn.init.trunc_normal_(self.places, std=0.02)
        if lora:
            self.requires_grad_(False)
            adapt(self.blocks, lora)

    def _tokens(self, tokens: Tensor, padding: Tensor, memory: list[Memory] | None = None) -> Tensor:
        new = tokens.shape[1]
        place = (~padding).cumsum(1)[:, -new:] - 1
        x = self.vocabulary(tokens) + self.places[place.clamp(0, self.length - 1)]
        total = padding.shape[1]
        query, key = torch.arange(total - new, total, device=tokens.device).unsqueeze(1), torch.arange(total, device=tokens.device)
        # Padding in front sees itself, since a softmax over nothing is not a number.
        attend = ((key <= query) & ~padding.unsqueeze(1)) | (key == query)
        for i, block in enumerate(self.blocks):
            x = block(x, attend.unsqueeze(1), memory[i] if memory is not None else None)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        self.refuse_mask(masked)
        x = self._tokens(inputs["tokens"], inputs["padding"])
        return Features(pooled_mean(x, inputs["padding"]), x, inputs["padding"])

    def states(self, inputs: Inputs) -> Tensor:
        return self._tokens(inputs["tokens"], inputs["padding"])

    @property
    def head(self) -> nn.Linear | None:
        return self.words if type(self.words) is nn.Linear else None

    def logits(self, inputs: Inputs) -> Tensor:
        return self.words(self.states(inputs))  # type: ignore[no-any-return]

    def read(self, tokens: Tensor, padding: Tensor, memory: object = None) -> tuple[Tensor, object]:
        memory = [Memory() for _ in self.blocks] if memory is None else memory
        return self.words(self._tokens(tokens, padding, memory)[:, -1]), memory  # type: ignore[arg-type]
