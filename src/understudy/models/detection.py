"""A student that finds boxes without anchors: at every place of a view, the classes and the four sides of what is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import isqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from understudy import keyed, maths
from understudy.data.modalities.detection import DetectionModality
from understudy.data.samples import Batch, Inputs, Modality, View
from understudy.errors import UserError
from understudy.models.backbone import Backbone, Features, seeded
from understudy.models.student import Drawing

PRIOR = 0.01
"""Probability of every class at every place before anything is learned, so that the many empty places do not drown the others (1708.02002, section 4.1)."""
_REACH = 0.25
"""From a place to each side of its box before anything is learned, in halves of a view's side."""
_ONE = 9
"""Places that a box has (three by three): an image in which nothing is known must not count many times as much as one with a box."""
MOST = 100
"""Boxes of a view, at most (as COCO counts them)."""


class Found(NamedTuple):
    """Boxes in a view, those with the highest scores first."""

    boxes: Tensor
    """``[B, K, 4]``: left, top, right, bottom, the view spanning [-1, 1]."""
    classes: Tensor
    """int64 ``[B, K]``."""
    scores: Tensor
    """``[B, K]``, 0 where there is no box."""


class Detector(Drawing):
    """FCOS (1904.01355) on one map, without centre-ness: a sigmoid for every class and the distances to the four sides, learned by focal loss and GIoU."""

    def __init__(self, backbone: Backbone, modality: Modality, classes: Sequence[str], spec: dict[str, Any], key: int):
        super().__init__(backbone, modality, classes, spec, key)
        assert isinstance(modality, DetectionModality) and backbone.patch is not None, "a box net reads boxes, and its tokens are squares"
        if modality.size % backbone.patch:
            raise UserError(
                f"boxes are answered at squares of {backbone.patch} pixels, which do not fill a view of {modality.size}: set data.size to a multiple"
            )
        self.cell = 2.0 * backbone.patch / modality.size
        """Side of a token, the view spanning [-1, 1]."""
        self.reach: nn.Linear | None = None
        if self.head is not None:
            nn.init.constant_(self.head.bias, math.log(PRIOR / (1 - PRIOR)))
            with seeded(int(keyed.fold(key, "reach"))):
                self.reach = nn.Linear(backbone.token_width, 4)
                nn.init.normal_(self.reach.weight, std=0.01)
                nn.init.zeros_(self.reach.bias)

    def forward(self, inputs: Inputs) -> Tensor:
        """What is said at every place, ``[B, 4 + C, h, w]``: the corners of a box, then logits. Raises LookupError without classes."""
        return self.logits(self.features(inputs))

    def logits(self, features: Features) -> Tensor:
        """As ``forward``, of what ``features`` gave. Raises LookupError without classes."""
        if self.head is None or self.reach is None:
            raise LookupError("this student has no classes; give it a head with with_head(classes, key)")
        at, side = self.places(features.tokens), isqrt(features.tokens.shape[1])
        sides = _REACH * self.reach(features.tokens).float().clamp(-5.0, 5.0).exp()
        said = torch.cat([at - sides[..., :2], at + sides[..., 2:], self.head(features.tokens).float()], 2)
        return said.transpose(1, 2).unflatten(2, (side, side))

    def places(self, like: Tensor) -> Tensor:
        """Middles of the tokens of a square view, ``[L, 2]``, row by row."""
        steps = (torch.arange(isqrt(like.shape[1]), dtype=torch.float32, device=like.device) + 0.5) * self.cell - 1.0
        return torch.stack([steps.repeat(len(steps)), steps.repeat_interleave(len(steps))], 1)

    def losses(self, batch: Batch, view: View, smoothing: float = 0.0) -> Tensor:
        """Focal loss of the classes and GIoU of the boxes, ``[B]``. What lies outside of the canvas, in a mirrored border, is nobody's."""
        return self.lost(self(view.inputs), view, smoothing)

    def lost(self, said: Tensor, view: View, smoothing: float = 0.0) -> Tensor:
        """As ``losses``, of what was ``said`` of the view."""
        assert view.truth is not None and view.place is not None, "views of such data have them"
        there = maths.hull(self.places(said[:, 0].flatten(1)).repeat(1, 2).expand(len(said), -1, -1), view.place)
        known = (there.abs() <= 1.0).all(2).float()
        return self.class_losses(said, view.truth, known, smoothing) + self.box_losses(said, view.truth)

    def class_losses(self, said: Tensor, truth: Tensor, empty: Tensor, smoothing: float = 0.0) -> Tensor:
        """Focal loss over the places of every sample, over the number of those that have a box, but never fewer than one box has: ``[B]``. ``truth`` ``[B, N, 5]`` as a view has it; ``empty`` ``[B, L]`` says how much a place
        without a box counts."""
        mine, _, classes = self._targets(said, truth)
        logits = said[:, 4:].flatten(2).transpose(1, 2)
        wanted = maths.smooth(nn.functional.one_hot(classes, logits.shape[2]).float(), smoothing) * mine.unsqueeze(2)
        losses = maths.focal(logits, wanted).sum(2) * torch.where(mine, 1.0, empty)
        return losses.sum(1) / mine.sum(1).clamp_min(_ONE)

    def box_losses(self, said: Tensor, truth: Tensor) -> Tensor:
        """1 - GIoU, mean over the places that have a box: ``[B]``, 0 where none has."""
        mine, boxes, _ = self._targets(said, truth)
        losses = (1.0 - maths.giou(said[:, :4].flatten(2).transpose(1, 2), boxes)) * mine
        return losses.sum(1) / mine.sum(1).clamp_min(1)

    def _targets(self, said: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of every place: whether it has a box, which ``[B, L, 4]``, and of which class."""
        which = maths.assigned_boxes(truth[..., :4], truth[..., 4] >= 0, self.places(said[:, 0].flatten(1)), self.cell)
        own = truth.gather(1, which.clamp_min(0).unsqueeze(2).expand(-1, -1, 5))
        return which >= 0, own[..., :4], own[..., 4].long().clamp_min(0)

    @staticmethod
    @torch.no_grad()
    def found(said: Tensor, least: float = 0.05, most: int = MOST, overlap: float = 0.6) -> Found:
        """The boxes in what ``forward`` said: at most ``most`` with a score of at least ``least`` that do not overlap more with a surer one of their class."""
        scores, where = said[:, 4:].float().sigmoid().flatten(1).topk(min(most, said[:, 4:].flatten(1).shape[1]))
        places = said.shape[2] * said.shape[3]
        boxes = said[:, :4].float().flatten(2).gather(2, (where % places).unsqueeze(1).expand(-1, 4, -1)).transpose(1, 2).clamp(-1.0, 1.0)
        scores = scores.where(scores >= least, 0.0)
        classes = where // places
        return Found(boxes, classes, scores * maths.kept_boxes(boxes, scores, classes, overlap))
