"""One figure on test samples for any kind of answer, beside its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from understudy import evaluate
from understudy.data.modalities import Scene
from understudy.data.samples import Samples
from understudy.evaluate import Gain, Proportion
from understudy.maths import UNLABELLED
from understudy.models import Segmenter, Student
from understudy.models.predict import evaluating

OVERLAP = "mean IoU"
"""Mean over the classes of intersection over union of answers and truth, in pixels."""


@dataclass(frozen=True)
class Measured:
    """Figures of a result and, where there is one, its control; all None without test samples."""

    metric: str = "accuracy"
    control: Proportion | None = None
    result: Proportion | None = None
    gain: Gain | None = None
    control_logits: Tensor | None = None
    """``[N, C]``, where an answer is a class."""
    result_logits: Tensor | None = None


def measure(student: Student, test: Samples | None, control: Student | None = None) -> Measured:
    """What a student with classes is worth on labelled samples: its accuracy, or its mean IoU where it answers at every pixel."""
    if isinstance(student, Segmenter):
        if test is None or student.head is None:
            return Measured(OVERLAP)
        result = evaluate.pixel_counts(student, test)
        if control is None:
            return Measured(OVERLAP, None, evaluate.mean_iou(*result))
        before = evaluate.pixel_counts(control, test)
        return Measured(OVERLAP, evaluate.mean_iou(*before), evaluate.mean_iou(*result), evaluate.mean_iou_gain(before, result))
    if test is None or student.head is None:
        return Measured()
    after = evaluate.predict(student, test)
    if control is None:
        return Measured(result=evaluate.accuracy(after, test.labels), result_logits=after)
    first = evaluate.predict(control, test)
    scores = [evaluate.accuracy(logits, test.labels) for logits in (first, after)]
    return Measured("accuracy", scores[0], scores[1], evaluate.paired_gain(first, after, test.labels), first, after)


def write_masks(student: Segmenter, samples: Samples, folder: Path, batch: int = 64) -> int:
    """What the student answers for ``samples``, as masks that can be given as data again; returns how many. Of an image that is no square its sides are not seen: 255."""
    done = 0
    with evaluating(student):
        for part in samples.batches(batch):
            answers = student(part.view("plain").inputs).argmax(1).to(torch.uint8).numpy()
            for row, position in enumerate(samples.positions[part.index].tolist()):
                scene = samples.encoded.original(position)
                assert isinstance(scene, Scene), "such data are scenes"
                place = folder / Path(samples.ids[int(part.index[row])].removeprefix("test:")).with_suffix(".png")
                place.parent.mkdir(parents=True, exist_ok=True)
                _full_size(answers[row], scene.image.size).save(place)
                done += 1
    return done


def _full_size(answer: np.ndarray, size: Sequence[int]) -> Image.Image:
    """A square answer where it lay in an image of ``size``, the central square."""
    whole, side = Image.new("L", tuple(size), UNLABELLED), min(size)  # type: ignore[arg-type]
    whole.paste(Image.fromarray(answer).resize((side, side), Image.Resampling.NEAREST), ((size[0] - side) // 2, (size[1] - side) // 2))
    return whole
