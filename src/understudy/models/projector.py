"""From a student's map to a teacher's tokens by cross-attention (ScaleKD, arXiv 2411.06786)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.models.backbone import seeded
from understudy.models.norm import BatchNorm2d


class AttentionProjector(nn.Module):
    """Maps ``[B, entering, height, width]`` of one size to tokens ``[B, places, leaving]``: each place asks the whole map.

    The map passes a convolution of 3x3 and gets a learned code of its places; the questions are learned codes of the teacher's places, or are given with the call where not
    ``asks``. Scores are multiplied by ``sharpness``: at 1 every place would begin with nearly the same mean of the map. A perceptron around which its input is led past follows.
    """

    def __init__(
        self, entering: int, size: tuple[int, int], leaving: int, places: int, heads: int, key: int, asks: bool = True, sharpness: float = 5.0
    ):  # fmt: skip
        super().__init__()
        self.heads, self.sharpness = heads, sharpness
        with seeded(key):
            self.enter = nn.Sequential(nn.Conv2d(entering, entering, 3, padding=1), BatchNorm2d(entering), nn.ReLU())
            self.where = nn.Parameter(nn.init.trunc_normal_(torch.empty(entering, *size), std=0.02))
            self.questions = nn.Parameter(torch.empty(places, leaving).normal_()) if asks else None
            self.asked = nn.Sequential(nn.Linear(leaving, leaving), nn.ReLU())
            self.queries, self.values = nn.Linear(leaving, leaving), nn.Linear(entering, 2 * leaving)
            self.out, self.norm = nn.Linear(leaving, leaving), nn.LayerNorm(leaving)
            self.mlp = nn.Sequential(nn.Linear(leaving, 4 * leaving), nn.GELU(), nn.Linear(4 * leaving, leaving))

    def forward(self, maps: Tensor, questions: Tensor | None = None) -> Tensor:
        asked = self.questions.expand(len(maps), -1, -1) if self.questions is not None else questions
        assert asked is not None, "who does not ask is asked"
        seen = (self.enter(maps) + self.where).flatten(2).transpose(1, 2)
        queries, keys, values = (self._apart(x) for x in (self.queries(self.asked(asked)), *self.values(seen).chunk(2, -1)))
        mixed = F.scaled_dot_product_attention(self.sharpness * queries, keys, values).transpose(1, 2).flatten(2)
        x = self.norm(self.out(mixed))
        return x + self.mlp(x)  # type: ignore[no-any-return]

    def _apart(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
