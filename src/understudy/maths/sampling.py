"""From logits and one random number to a token."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy.maths.precision import in_float32


@in_float32
def tokens_at(logits: Tensor, uniform: Tensor) -> Tensor:
    """The tokens at quantiles ``uniform`` of softmax(logits): ``[N, V]``, float64 ``[N, d]`` in [0, 1) -> int64 ``[N, d]``. Summed in float64, or rare tokens would be lost."""
    reached = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(reached, uniform * reached[:, -1:], right=True).clamp_max(logits.shape[1] - 1)


@in_float32
def next_token(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Tensor:
    """The token at quantile ``uniform`` of softmax(logits / temperature): ``[B, V]``, ``[B]`` in [0, 1) -> int64 ``[B]``. Temperature 0 takes the likeliest.

    ``top_k`` > 0 leaves only that many tokens, ``top_p`` < 1 then only the fewest likeliest that reach that share of what is left (1904.09751, section 3.1).
    """
    if temperature == 0:
        return logits.argmax(-1)
    p, order = (logits.double() / temperature).softmax(-1), None
    if top_k > 0 or top_p < 1:
        p, order = p.sort(dim=-1, descending=True, stable=True)
        if top_k > 0:
            p = p[:, :top_k]
        before = p.cumsum(-1) - p
        p = torch.where(before < top_p * p.sum(-1, keepdim=True), p, 0.0)
    reached = p.cumsum(-1)
    token = torch.searchsorted(reached, (uniform.double() * reached[:, -1]).unsqueeze(-1), right=True)
    return (token if order is None else order.gather(-1, token)).squeeze(-1)
