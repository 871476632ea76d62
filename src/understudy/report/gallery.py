"""Galleries from samples and probabilities: what was seen, what was trusted, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from understudy.data.modalities.table import TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.samples import Batch, Modality, Samples, View
from understudy.maths import UNLABELLED
from understudy.models import Detector, Drawing
from understudy.models.predict import evaluating
from understudy.report.pictures import label_colours
from understudy.report.record import Exhibit, Gallery, Panel

SHOWN = 14
SURE = 0.3
"""Score from which a box is an answer."""
_FRAMED = 192
"""Pixels a side of an image with boxes on it."""


def as_is(samples: Samples, index: int) -> Panel:
    """One sample in its plain view."""
    batch = samples.batch(torch.tensor([index]))
    return as_seen(batch.view("plain"), samples.modality)[0]


def as_seen(view: View, modality: Modality) -> list[Panel]:
    """Every sample of ``view`` as it shows it to a model: pixels with hidden patches in grey, the text its tokens spell, the row its numbers stand for, or the picture
    that the modality makes of it."""
    if hasattr(modality, "pictured"):
        panels: list[Panel] = modality.pictured(view)
        return panels
    if isinstance(modality, TextModality):
        rows = zip(view.inputs["tokens"], view.inputs["padding"], strict=True)
        return [modality.tokenizer.decode(tokens[~padding].tolist()) for tokens, padding in rows]
    if isinstance(modality, TableModality):
        return [_row(modality, *cells) for cells in zip(view.inputs["numbers"], view.inputs["absent"], view.inputs["categories"], strict=True)]
    return [_pixels(_greyed(p, None if view.masked is None else view.masked[i])) for i, p in enumerate(view.inputs["pixels"])]


def seen_by_both(batch: Batch, teacher_view: str = "weak", student_view: str = "strong") -> Gallery:
    """What the teacher saw beside what the student saw, for the first samples of ``batch``."""
    first = batch.samples.batch(batch.index[:12], batch.key, batch.step, batch.device)
    modality = batch.samples.modality
    names = [_name(first.samples.classes, int(label)) for label in first.labels]
    pairs = zip(as_seen(first.view(teacher_view), modality), as_seen(first.view(student_view), modality), names, strict=True)
    return Gallery(
        "What the teacher saw, what the student saw",
        f"The teacher answers on the {teacher_view} view; the student learns the answer on the {student_view} view.",
        [Exhibit([a, b], name) for a, b, name in pairs], [f"{teacher_view} view (teacher)", f"{student_view} view (student)"],
    )  # fmt: skip


def trusted(samples: Samples, probabilities: Tensor, truth: Tensor | None = None) -> list[Gallery]:
    """The most and the least trusted pseudo-labels of ``samples``, from class probabilities ``[N, C]``; marked right or wrong where ``truth`` is known."""
    order = probabilities.max(-1).values.argsort(descending=True, stable=True)
    most, least = order[:SHOWN].tolist(), order[SHOWN:].flip(0)[:SHOWN].tolist()
    return [
        Gallery("Most trusted pseudo-labels", "A wrong one here is taught with confidence.", [_answer(samples, i, probabilities, truth) for i in most]),
        Gallery("Least trusted pseudo-labels", "The best candidates for labelling by hand.", [_answer(samples, i, probabilities, truth) for i in least]),
    ]


def changed_minds(samples: Samples, before: Tensor, after: Tensor, truth: Tensor | None = None) -> Gallery:
    """Samples whose answer differs between two rounds (probabilities ``[N, C]``), the surest new answers first."""
    changed = (before.argmax(-1) != after.argmax(-1)).nonzero().squeeze(-1)
    order = changed[after.max(-1).values[changed].argsort(descending=True, stable=True)].tolist()
    exhibits = []
    for i in order[:SHOWN]:
        old, new = (_name(samples.classes, int(p[i].argmax())) for p in (before, after))
        exhibits.append(Exhibit([as_is(samples, i)], f"{old} → {new}", _sure(after[i]), _right(int(after[i].argmax()), truth, i)))
    return Gallery("Changed minds", f"{len(order):,} of {len(samples):,} answers differ between the last two rounds.", exhibits)


def worst_mistakes(samples: Samples, probabilities: Tensor) -> Gallery:
    """Wrong answers on labelled ``samples``, the surest first."""
    wrong = ((probabilities.argmax(-1) != samples.labels) & (samples.labels >= 0)).nonzero().squeeze(-1)
    order = wrong[probabilities.max(-1).values[wrong].argsort(descending=True, stable=True)].tolist()[:SHOWN]
    exhibits = []
    for i in order:
        answer, label = (_name(samples.classes, int(c)) for c in (probabilities[i].argmax(), samples.labels[i]))
        exhibits.append(Exhibit([as_is(samples, i)], answer, f"labelled {label}, {_sure(probabilities[i])}", False))
    return Gallery("Worst mistakes", "Wrong on the test samples, the surest first. Some may be wrong labels.", exhibits)


def drawn(title: str, samples: Samples, student: Drawing) -> Gallery:
    """The first samples with the labels drawn on them, where there are any, and with what the student draws."""
    view = samples.take(torch.arange(min(SHOWN, len(samples)))).batch(torch.arange(min(SHOWN, len(samples)))).view("plain")
    assert view.truth is not None, "views of such data have the labels"
    with evaluating(student):
        said = student(view.inputs)
    if isinstance(student, Detector):
        found = student.found(said, SURE)
        answer = torch.cat([found.boxes, found.classes.where(found.scores > 0, -1).unsqueeze(2).float()], 2)
        sides = [_framed(view, boxes, len(student.classes)) for boxes in ([view.truth] if len(samples.labelled) else []) + [answer]]
        colours = f"Every class has a colour; answers with a score of at least {SURE}."
        names = [*(["labels"] if len(samples.labelled) else []), "answer"]
        return Gallery(title, colours, [Exhibit(list(panels), "") for panels in zip(*sides, strict=True)], names)
    answers = said.argmax(1)
    known = bool((view.truth != UNLABELLED).any())
    sides = [
        [_pixels(p) for p in view.inputs["pixels"]],
        *([_coloured(view.truth, len(student.classes))] if known else []),
        _coloured(answers, len(student.classes)),
    ]
    names = ["image", *(["mask"] if known else []), "answer"]
    return Gallery(title, "Every class has a colour; grey is no label.", [Exhibit(list(panels), "") for panels in zip(*sides, strict=True)], names)


def _coloured(classes: Tensor, count: int) -> list[Panel]:
    """Masks ``[B, H, W]`` in the colours of the classes, uint8 ``[H, W, 3]`` each."""
    palette = np.full((256, 3), 154, dtype=np.uint8)
    palette[:count] = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in label_colours(count)]
    return [palette[mask.numpy()] for mask in classes.cpu()]


def _framed(view: View, boxes: Tensor, count: int) -> list[Panel]:
    """Images, enlarged, with frames in the colours of the classes: boxes ``[B, N, 5]``."""
    colours = label_colours(count)
    panels: list[Panel] = []
    for pixels, some in zip(view.inputs["pixels"], boxes.cpu().tolist(), strict=True):
        image = Image.fromarray(_pixels(pixels)).convert("RGB")
        image = image.resize((_FRAMED, _FRAMED), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(image)
        for *corners, kind in some:
            if kind >= 0:
                pen.rectangle([(corner + 1) / 2 * (_FRAMED - 1) for corner in corners], outline=colours[int(kind)], width=2)
        panels.append(np.asarray(image))
    return panels


def _answer(samples: Samples, index: int, probabilities: Tensor, truth: Tensor | None) -> Exhibit:
    answer = int(probabilities[index].argmax())
    return Exhibit([as_is(samples, index)], _name(samples.classes, answer), _sure(probabilities[index]), _right(answer, truth, index))


def _right(answer: int, truth: Tensor | None, index: int) -> bool | None:
    return None if truth is None or int(truth[index]) < 0 else answer == int(truth[index])


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if 0 <= label < len(classes) else ""


def _sure(probabilities: Tensor) -> str:
    return f"{100 * float(probabilities.max()):.0f} % sure"


def _pixels(pixels: Tensor) -> np.ndarray:
    """float ``[C, H, W]`` in [0, 1] to uint8 ``[H, W]`` or ``[H, W, 3]``."""
    values = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return (values[0] if len(values) == 1 else values.permute(1, 2, 0)).contiguous().numpy()


def _greyed(pixels: Tensor, masked: Tensor | None) -> Tensor:
    """Hidden patches in half grey; they cover a square image in rows of equal squares."""
    if masked is None:
        return pixels
    side = round(len(masked) ** 0.5)
    hidden = masked.reshape(1, 1, side, side).float()
    return torch.where(F.interpolate(hidden, pixels.shape[-2:])[0] > 0.5, 0.5, pixels)


def _row(modality: TableModality, numbers: Tensor, absent: Tensor, categories: Tensor) -> dict[str, str]:
    """The cells of a row in the units of its columns."""
    cells = {c.name: "missing" if gone else f"{float(v) * c.std + c.mean:.4g}" for c, v, gone in zip(modality.numbers, numbers, absent.tolist(), strict=True)}
    return cells | {c.name: c.vocabulary[code - 1] if code else "missing" for c, code in zip(modality.categories, categories.tolist(), strict=True)}
