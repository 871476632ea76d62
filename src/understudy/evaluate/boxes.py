"""What found boxes are worth: average precision, as COCO counts it (precision at 101 recalls, 1405.0312), with an image as the unit of doubt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from understudy import maths
from understudy.data.samples import Samples
from understudy.errors import UserError
from understudy.evaluate.metrics import Gain, Proportion
from understudy.evaluate.scenes import interval, often
from understudy.models import Detector, Student
from understudy.models.predict import device_of, evaluating

THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))
"""Overlaps from which a box is right: from .5 to .95."""
_RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)


@dataclass(frozen=True)
class BoxMatches:
    """Boxes that were found in some images, the surest first, and which of them are right."""

    scores: Tensor
    """``[D]``, falling."""
    classes: Tensor
    """int64 ``[D]``."""
    images: Tensor
    """int64 ``[D]``: the number of the image."""
    right: Tensor
    """bool ``[D, 10]``, at each of ``THRESHOLDS``."""
    there: Tensor
    """int64 ``[N, C]``: how many boxes of each class each image really has."""

    metric = "AP50"

    @classmethod
    def of(cls, student: Student, samples: Samples, batch: int = 64) -> BoxMatches:
        """Of the plain view of every labelled sample. Raises UserError where nothing is labelled, or where the model finds no boxes."""
        if not isinstance(student, Detector):
            raise UserError("average precision is measured of models that find boxes; give one that was trained on images with boxes")
        if not len(samples.labelled):
            raise UserError("average precision needs at least one image with boxes: give --test, or more boxes")
        parts, first = [], 0
        with evaluating(student):
            for part in samples.labelled.batches(batch, device_of(student)):
                view = part.view("plain")
                assert view.truth is not None, "views of such data have the boxes"
                found = student.found(student(view.inputs), least=0.001)
                parts.append(matched(found.boxes.cpu(), found.scores.cpu(), found.classes.cpu(), view.truth.cpu(), len(student.classes), first))
                first += len(part)
        return joined(parts)

    def precision(self) -> Tensor:
        """Average precision of each class at each of ``THRESHOLDS``, float64 ``[C, 10]``; nan of a class that does not occur."""
        whole = torch.ones(1, len(self.there), dtype=torch.float64)
        return torch.stack([self._drawn(whole, at)[0] for at in range(len(THRESHOLDS))], 1)

    def proportion(self) -> Proportion:
        """Mean over the classes at an overlap of .5, with the 95 % interval of a bootstrap over the images."""
        value = _mean(self.precision()[:, 0])
        return Proportion(value, *interval(self._bootstrap(), value), len(self.there))

    def strict(self) -> float:
        """Mean over the classes and the overlaps from .5 to .95."""
        return _mean(self.precision().mean(1))

    def over(self, control: BoxMatches) -> Gain:
        """How much higher AP50 is than that of a control on the same images, with the 95 % interval of a paired bootstrap."""
        value = _mean(self.precision()[:, 0]) - _mean(control.precision()[:, 0])
        return Gain(value, *interval(self._bootstrap() - control._bootstrap(), value), len(self.there))

    def _bootstrap(self) -> Tensor:
        return self._drawn(often(len(self.there)), 0).nanmean(1)

    def _drawn(self, weights: Tensor, at: int) -> Tensor:
        """Average precision of each class where image n counts ``weights`` ``[R, N]`` times: float64 ``[R, C]``."""
        answers = []
        for c in range(self.there.shape[1]):
            mine = self.classes == c
            each = weights[:, self.images[mine]]
            total = weights @ self.there[:, c].double()
            answers.append(_average_precision((each * self.right[mine, at]).cumsum(1), each.cumsum(1), total))
        return torch.stack(answers, 1)


def _mean(precision: Tensor) -> float:
    return float(precision.nanmean().nan_to_num())


def _average_precision(right: Tensor, said: Tensor, total: Tensor) -> Tensor:
    """Mean over 101 recalls of the best precision at that recall or a higher one; ``[R, D]`` running counts of right and of all answers, ``[R]`` of what there is -> ``[R]``, nan of nothing."""
    precision = right / said.clamp_min(1e-12)
    best = precision.flip(1).cummax(1).values.flip(1) if precision.shape[1] else precision
    best = torch.cat([best, torch.zeros(len(best), 1, dtype=best.dtype)], 1)
    place = torch.searchsorted((right / total.clamp_min(1e-12).unsqueeze(1)).contiguous(), (_RECALLS - 1e-9).expand(len(right), -1).contiguous())
    return best.gather(1, place).mean(1).where(total > 0, torch.nan)


def matched(boxes: Tensor, scores: Tensor, classes: Tensor, truth: Tensor, count: int, first: int = 0) -> BoxMatches:
    """Boxes found in images, ``[B, K, 4]``, ``[B, K]`` falling, ``[B, K]``, against ``truth`` ``[B, N, 5]``: each takes the true box of its class that it overlaps most of those that no
    surer one has taken. The first image has the number ``first``."""
    overlap = maths.iou(boxes, truth[..., :4]) * (classes.unsqueeze(2) == truth[..., 4].unsqueeze(1))
    levels = torch.tensor(THRESHOLDS)
    free = (truth[..., 4] >= 0).unsqueeze(2).repeat(1, 1, len(levels))
    right = torch.zeros(*scores.shape, len(levels), dtype=torch.bool)
    for k in range(scores.shape[1]):
        best, which = overlap[:, k].unsqueeze(2).where(free, -1.0).max(1)
        right[:, k] = (best >= levels - 1e-6) & (scores[:, k, None] > 0)
        taken = torch.zeros_like(free).scatter_(1, which.unsqueeze(1), right[:, k].unsqueeze(1))
        free &= ~taken
    images = torch.arange(first, first + len(scores)).unsqueeze(1).expand_as(scores)
    there = torch.stack([(truth[..., 4] == c).sum(1) for c in range(count)], 1)
    said = scores > 0
    return _sorted(scores[said], classes[said], images[said], right[said], there)


def joined(parts: list[BoxMatches]) -> BoxMatches:
    """Of different images."""
    scores, classes, images, right, there = (torch.cat([getattr(part, name) for part in parts]) for name in ("scores", "classes", "images", "right", "there"))
    return _sorted(scores, classes, images, right, there)


def _sorted(scores: Tensor, classes: Tensor, images: Tensor, right: Tensor, there: Tensor) -> BoxMatches:
    order = scores.argsort(descending=True, stable=True)
    return BoxMatches(scores[order], classes[order], images[order], right[order], there)
