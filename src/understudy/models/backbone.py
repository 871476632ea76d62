"""What every model inside a student is: inputs to features, with positions that can be hidden."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from understudy import keyed
from understudy.data.samples import Inputs


class Features(NamedTuple):
    """What a backbone says about a batch."""

    pooled: Tensor
    """``[B, D]``: one vector a sample."""
    tokens: Tensor
    """``[B, T, D]``: one vector a position."""
    padding: Tensor | None = None
    """bool ``[B, T]``, true where a position only fills up the batch."""


class Backbone(nn.Module, ABC):
    """A model without a head. How it pools is said by each class."""

    modality: str
    """Name of the modality it reads."""
    width: int
    """D of ``Features.pooled``."""
    token_width: int
    """D of ``Features.tokens``; ``width`` for all but some timm models, which widen after pooling."""
    patch: int | None
    """Pixels that a token covers along each side, as the view counts them; 1 for text and tables; None where that is no whole number."""
    drops: bool = False
    """Whether hidden positions can be left out of the computation; where not, ``drop`` hides them behind a mask instead."""

    rate: float = 1e-3
    """AdamW's peak learning rate that suits it, where neither the user nor the system names one."""
    published: bool = False
    """Whether it comes from published weights, which a rate above ``rate`` would destroy."""

    @abstractmethod
    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        """Features of a batch.

        ``masked`` (bool ``[B, T]``, T as ``positions`` says) hides positions: nothing of their content reaches any output. They are replaced by a learned
        mask; with ``drop`` and a backbone that ``drops`` they are removed before the first block (MAE, arXiv 2111.06377), so that tokens are
        ``[B, visible, D]`` in the original order, padded where the samples keep different numbers.
        """

    @abstractmethod
    def positions(self, inputs: Inputs) -> int:
        """T, the number of positions of these inputs when nothing is dropped."""


def check_mask(masked: Tensor, positions: int) -> None:
    """Raises ValueError where a mask was made for another number of positions."""
    if masked.shape[1] != positions:
        raise ValueError(f"the mask covers {masked.shape[1]} positions and the model has {positions}: give the masked view the model's own patch")


def visible(masked: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Where the positions are that neither mask nor padding takes away.

    Returns their indices int64 ``[B, V]`` in ascending order, V being the most that any sample keeps, and a bool ``[B, V]`` that is true where a sample keeps
    fewer (None where all keep V). V is a shape, so this reads one number back from the device.
    """
    hidden = masked if padding is None else masked | padding
    fewest, most = torch.aminmax((~hidden).sum(1))
    fewest, most = torch.stack([fewest, most]).tolist()
    index = torch.argsort(hidden.to(torch.int8), dim=1, stable=True)[:, :most]
    return index, None if fewest == most else hidden.gather(1, index)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Positions ``index`` ``[B, V]`` of ``x`` ``[B, T, D]``: ``[B, V, D]``."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def pooled_mean(tokens: Tensor, padding: Tensor | None) -> Tensor:
    """The mean ``[B, D]`` of the tokens that are not padding; zero where there is none."""
    if padding is None:
        return tokens.mean(1)
    return tokens.masked_fill(padding.unsqueeze(-1), 0).sum(1) / (~padding).sum(1, keepdim=True).clamp_min(1)


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Initialise modules as a pure function of ``key``; the global generator is as it was afterwards."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(keyed.generator(key).initial_seed())
        yield
