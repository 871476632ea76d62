"""What answers at every pixel are worth. An image is the unit of doubt: its pixels are not independent of each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from understudy import keyed, maths
from understudy.data.samples import Samples
from understudy.errors import UserError
from understudy.evaluate.metrics import Gain, Proportion
from understudy.models import Segmenter, Student
from understudy.models.predict import device_of, evaluating

_DRAWS = 1000
"""Of the images, with replacement, for an interval."""


def pixel_counts(student: Student, samples: Samples, batch: int = 128) -> tuple[Tensor, Tensor]:
    """Intersection and union of every class in every image, in pixels of the plain view: int64 ``[N, C]`` twice.

    Raises UserError where nothing is labelled, or where the model does not answer at every pixel.
    """
    if not isinstance(student, Segmenter):
        raise UserError("overlap is measured of models that answer at every pixel; give one that was trained on images with masks")
    if not len(samples.labelled):
        raise UserError("overlap needs at least one image with a mask: give --test, or more masks")
    found = []
    with evaluating(student):
        for part in samples.labelled.batches(batch, device_of(student)):
            view = part.view("plain")
            assert view.truth is not None, "views of such data have the mask"
            found.append(maths.overlaps(student(view.inputs).argmax(1), view.truth, len(student.classes)))
    intersection, union = (torch.cat(counts).cpu() for counts in zip(*found, strict=True))
    return intersection, union


def mean_iou(intersection: Tensor, union: Tensor) -> Proportion:
    """Mean intersection over union of the classes, of counts per image ``[N, C]``, with the 95 % interval of a bootstrap over the images."""
    value = float(maths.mean_overlap(intersection.sum(0), union.sum(0)))
    return Proportion(value, *interval(_bootstrap(intersection, union), value), len(intersection))


def mean_iou_gain(control: tuple[Tensor, Tensor], result: tuple[Tensor, Tensor]) -> Gain:
    """How much larger the second of two mean overlaps is, on the same images (``pixel_counts``), with the 95 % interval of a paired bootstrap."""
    value = float(maths.mean_overlap(result[0].sum(0), result[1].sum(0)) - maths.mean_overlap(control[0].sum(0), control[1].sum(0)))
    return Gain(value, *interval(_bootstrap(*result) - _bootstrap(*control), value), len(result[0]))


@dataclass(frozen=True)
class PixelCounts:
    """Intersection and union of every class in every image, int64 ``[N, C]`` each."""

    intersection: Tensor
    union: Tensor

    metric = "mean IoU"

    @classmethod
    def of(cls, student: Student, samples: Samples) -> PixelCounts:
        return cls(*pixel_counts(student, samples))

    def proportion(self) -> Proportion:
        return mean_iou(self.intersection, self.union)

    def over(self, control: PixelCounts) -> Gain:
        return mean_iou_gain((control.intersection, control.union), (self.intersection, self.union))


def _bootstrap(intersection: Tensor, union: Tensor) -> Tensor:
    """Mean overlap on draws of the images."""
    many = often(len(intersection))
    return maths.mean_overlap(many @ intersection.double(), many @ union.double())


def often(images: int) -> Tensor:
    """How often each of ``images`` is in each draw of as many with replacement, float64 ``[1000, N]``: the same draws for the same number."""
    drawn = keyed.integers(keyed.fold(keyed.fold(0, "images drawn"), torch.arange(_DRAWS)), images, (images,))
    return torch.zeros(_DRAWS, images, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(_DRAWS, images, dtype=torch.float64))


def interval(drawn: Tensor, value: float) -> tuple[float, float]:
    """The middle 95 % of figures of draws, float64 ``[R]``, and in any case the ``value`` of the whole."""
    low, high = drawn.nan_to_num().quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return min(low, value), max(high, value)
