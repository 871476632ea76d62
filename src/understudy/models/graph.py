"""The built-in backbone of graphs: a graph convolutional network (Kipf and Welling, arXiv 1609.02907)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.data.samples import Inputs
from understudy.models.backbone import Backbone, Features, check_mask


class GCN(Backbone):
    """Two convolutions: the mean, weighted by degrees, of a node and its neighbours, before and after a linear layer and a ReLU. With the student's head that is
    the network of the paper (equation 9). Where a node has more neighbours than are looked at, those count for all of them.

    Tokens are the node after both convolutions, which is also what is pooled, and its neighbours after the first.
    """

    modality = "graph"
    patch = 1
    rate = 1e-2

    def __init__(self, features: int, fans: Sequence[int], width: int = 64, dropout: float = 0.0):
        super().__init__()
        self.fans = (fans[0], fans[1])
        self.features = features
        self.width = self.token_width = width
        self.mask = nn.Parameter(torch.zeros(features))
        self.enter = nn.Linear(features, width)
        self.dropout = dropout
        nn.init.xavier_uniform_(self.enter.weight)
        nn.init.zeros_(self.enter.bias)

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        first, second = self.fans
        there, features = inputs["there"], inputs["features"]
        if masked is not None:
            check_mask(masked, 1 + first)
            hidden = occurring(masked, inputs["node"])
            features = torch.where(hidden.unsqueeze(-1), self.mask.to(features.dtype), features)
        x = F.dropout(features, self.dropout, self.training)
        x = F.linear(x, self.enter.weight)
        degree = inputs["degree"].to(x.dtype)
        near, far = slice(1, 1 + first), slice(1 + first, None)

        def convolved(own: Tensor, children: Tensor, of: Tensor, theirs: Tensor, seen: Tensor) -> Tensor:
            """Of nodes ``[..., D]`` with ``children`` ``[..., k, D]``, their degrees ``[...]`` and ``[..., k]``, and which children are there."""
            scale = of / seen.sum(-1).clamp_min(1) / (of + 1).sqrt()
            weights = torch.where(seen, scale.unsqueeze(-1) / (theirs + 1).sqrt(), torch.zeros_like(theirs))
            return own / (of + 1).unsqueeze(-1) + (weights.unsqueeze(-2) @ children).squeeze(-2)

        shape = (len(x), first, second)
        inner = torch.cat([
            convolved(x[:, :1], x[:, None, near], degree[:, :1], degree[:, None, near], there[:, None, near]),
            convolved(x[:, near], x[:, far].view(*shape, -1), degree[:, near], degree[:, far].view(shape), there[:, far].view(shape)),
        ], 1)  # fmt: skip
        inner = F.dropout(F.relu(inner + self.enter.bias), self.dropout, self.training)
        outer = convolved(inner[:, 0], inner[:, 1:], degree[:, 0], degree[:, near], there[:, near])
        return Features(outer, torch.cat([outer.unsqueeze(1), inner[:, 1:]], 1), ~there[:, : 1 + first])

    def positions(self, inputs: Inputs) -> int:
        return 1 + self.fans[0]


def occurring(masked: Tensor, node: Tensor) -> Tensor:
    """Where in a sample the nodes occur that are hidden among its first positions: bool ``[B, T]``, int64 ``[B, P]`` -> bool ``[B, P]``."""
    hidden = node[:, : masked.shape[1]].masked_fill(~masked, -2)
    return (node.unsqueeze(2) == hidden.unsqueeze(1)).any(2)
