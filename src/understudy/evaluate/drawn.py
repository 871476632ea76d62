"""How answers that are drawn on samples are counted: at every pixel, or box by box."""

from __future__ import annotations

from understudy.data.samples import Samples
from understudy.evaluate.boxes import BoxMatches
from understudy.evaluate.scenes import PixelCounts
from understudy.models import Detector, Drawing, Segmenter

COUNTS: dict[type[Drawing], type[PixelCounts] | type[BoxMatches]] = {Segmenter: PixelCounts, Detector: BoxMatches}


def counts(student: Drawing) -> type[PixelCounts] | type[BoxMatches]:
    """What counts the answers of such a student."""
    return next(counted for kind, counted in COUNTS.items() if isinstance(student, kind))


def drawn(student: Drawing, samples: Samples) -> PixelCounts | BoxMatches:
    """The answers to the labelled ``samples``, counted: ``metric``, ``proportion()`` and ``over(control)``. Raises UserError where nothing is labelled."""
    return counts(student).of(student, samples)
