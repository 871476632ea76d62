"""One figure on test samples for any kind of answer, beside its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from understudy import evaluate
from understudy.data.samples import Samples
from understudy.evaluate import Gain, Proportion
from understudy.maths import UNLABELLED
from understudy.models import Detector, Drawing, Student
from understudy.models.detection import Found
from understudy.models.predict import evaluating
from understudy.report.gallery import SURE


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
    """What a student with classes is worth on labelled samples: its accuracy, or what counts where its answers are drawn (mean IoU, average precision)."""
    if isinstance(student, Drawing):
        metric = evaluate.counts(student).metric
        if test is None or student.head is None:
            return Measured(metric)
        result = evaluate.drawn(student, test)
        if control is None:
            return Measured(metric, None, result.proportion())
        assert isinstance(control, Drawing), "a control is of the kind of its result"
        before: Any = evaluate.drawn(control, test)
        return Measured(metric, before.proportion(), result.proportion(), result.over(before))
    if test is None or student.head is None:
        return Measured()
    after = evaluate.predict(student, test)
    if control is None:
        return Measured(result=evaluate.accuracy(after, test.labels), result_logits=after)
    first = evaluate.predict(control, test)
    scores = [evaluate.accuracy(logits, test.labels) for logits in (first, after)]
    return Measured("accuracy", scores[0], scores[1], evaluate.paired_gain(first, after, test.labels), first, after)


def write_answers(student: Drawing, samples: Samples, folder: Path, batch: int = 64) -> int:
    """What the student answers for ``samples``, in files that can be given as data again; returns how many. Of an image that is no square its sides are not seen."""
    done = 0
    with evaluating(student):
        for part in samples.batches(batch):
            answers = student(part.view("plain").inputs)
            for row, position in enumerate(samples.positions[part.index].tolist()):
                place = folder / Path(samples.ids[int(part.index[row])].removeprefix("test:"))
                place.parent.mkdir(parents=True, exist_ok=True)
                _write(student, answers[row : row + 1], samples.encoded.original(position).image.size, place)
                done += 1
    return done


def _write(student: Drawing, answer: Tensor, size: tuple[int, int], place: Path) -> None:
    if isinstance(student, Detector):
        place.with_suffix(".txt").write_text("".join(line + "\n" for line in box_lines(student.found(answer, SURE), size)))
    else:
        _full_size(answer[0].argmax(0).to(torch.uint8).numpy(), size).save(place.with_suffix(".png"))


def box_lines(found: Found, size: tuple[int, int]) -> list[str]:
    """Boxes in the one view of an image of ``size``, of which it shows the central square: class, middle x and y, width and height as shares of the image, score."""
    lines, sides = [], torch.tensor(size)
    for box, kind, score in zip(found.boxes[0], found.classes[0].tolist(), found.scores[0].tolist(), strict=True):
        if score:
            corners = ((box.view(2, 2) * sides.min() + sides) / (2 * sides)).clamp(0, 1)
            numbers = [*corners.mean(0).tolist(), *(corners[1] - corners[0]).tolist(), score]
            lines.append(" ".join([str(kind), *(f"{number:.5f}" for number in numbers)]))
    return lines


def _full_size(answer: np.ndarray, size: Sequence[int]) -> Image.Image:
    """A square answer where it lay in an image of ``size``, the central square."""
    whole, side = Image.new("L", tuple(size), UNLABELLED), min(size)  # type: ignore[arg-type]
    whole.paste(Image.fromarray(answer).resize((side, side), Image.Resampling.NEAREST), ((size[0] - side) // 2, (size[1] - side) // 2))
    return whole
