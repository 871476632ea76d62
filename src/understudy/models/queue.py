"""A queue of what past batches left behind: features to compare with, words of a vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from understudy import collective


class Queue(nn.Module):
    """The last ``size`` vectors of ``width`` features, each with a label and a key; checkpointed, and the same on every process.

    Where nothing has come yet, ``filled`` is false, labels are -1 and features zero.
    """

    features: Tensor
    labels: Tensor
    keys: Tensor
    filled: Tensor
    place: Tensor

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("features", torch.zeros(size, width))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, features: Tensor, labels: Tensor | None = None, keys: Tensor | None = None) -> None:
        """Put ``[B, D]`` of every process, with labels and keys int64 ``[B]``, in place of the oldest; of more than fit, the last ones stay."""
        size, index = len(self.features), torch.arange(len(features) * collective.world(), device=features.device)
        index = index[-size:]
        where = (self.place + index) % size
        self.features[where] = collective.gather(features.detach())[index].to(self.features.dtype)
        if labels is not None:
            self.labels[where] = collective.gather(labels)[index]
        if keys is not None:
            self.keys[where] = collective.gather(keys)[index]
        self.filled[where] = True
        self.place += len(features) * collective.world()
