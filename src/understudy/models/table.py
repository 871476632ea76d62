"""The built-in table backbone: every column becomes a token (FT-Transformer, arXiv 2106.11959, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.transformer import Transformer, initialise


class TableTransformer(Transformer):
    """Numbers become ``value * direction``, categories a row of their column's embedding; a code of the column is added. Numbers come first."""

    modality = "table"
    patch = 1
    starts: Tensor

    def __init__(self, numbers: int, categories: Sequence[int], width: int = 64, depth: int = 3, heads: int = 4, drop_path: float = 0.0, registers: int = 0):
        super().__init__(width, depth, heads, drop_path, registers)
        self.numbers, self.categories = numbers, tuple(categories)
        """How many number columns, and how many values (0, unknown, included) each category column has."""
        self.directions = nn.Parameter(torch.empty(numbers, width))
        self.absent = nn.Parameter(torch.empty(numbers, width))
        self.values = nn.Embedding(sum(categories), width)
        self.places = nn.Parameter(torch.empty(numbers + len(categories), width))
        self.register_buffer("starts", torch.tensor([0, *categories]).cumsum(0)[:-1], persistent=False)
        self.apply(initialise)
        for parameter in (self.directions, self.absent, self.places, self.values.weight):
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5)

    def embed(self, inputs: Inputs) -> tuple[Tensor, Tensor, None]:
        numbers = inputs["numbers"].unsqueeze(-1) * self.directions
        numbers = torch.where(inputs["absent"].unsqueeze(-1), self.absent, numbers)
        categories = self.values(inputs["categories"] + self.starts)
        return torch.cat([numbers, categories], dim=1), self.places, None

    def positions(self, inputs: Inputs) -> int:
        return inputs["numbers"].shape[1] + inputs["categories"].shape[1]
