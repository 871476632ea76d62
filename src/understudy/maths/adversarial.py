"""Two who want the opposite of one number."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from understudy.maths.precision import in_float32


def reversed_gradient(x: Tensor) -> Tensor:
    """``x``, whose gradient arrives with the opposite sign: whoever made it climbs where the rest descends (Ganin and Lempitsky, 1409.7495)."""
    return 2 * x.detach() - x


@in_float32
def told_apart(real: Tensor, made: Tensor) -> Tensor:
    """A discriminator's binary cross-entropy, -log sigmoid(real) - log(1 - sigmoid(made)): logits ``[B, 1]`` twice -> ``[B]``."""
    return (F.softplus(-real) + F.softplus(made)).squeeze(-1)
