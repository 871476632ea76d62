"""What a student answers, and what it sees, over many samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Inputs, Samples
from understudy.errors import UserError
from understudy.models.backbone import Features, pooled_mean
from understudy.models.exits import Exits
from understudy.models.segmentation import Segmenter
from understudy.models.student import Student
from understudy.models.taps import Taps
from understudy.models.transformer import Transformer


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of ``module`` are."""
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule has its own mode back."""
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for m in training:
            m.training = True


def plain_inputs(samples: Samples, size: int, device: torch.device | str) -> Iterator[Inputs]:
    """The deterministic view of all samples once, in order."""
    if len(samples) == 0:
        raise UserError("there is nothing to evaluate: the selection of samples is empty; check --test and the split")
    for batch in samples.batches(size, device):
        yield batch.view("plain").inputs


def predict(student: Student, samples: Samples, batch: int = 512, device: torch.device | str | None = None) -> Tensor:
    """Logits of the plain view, float32 ``[N, C]`` on the CPU. The student stays where it is, or is moved to ``device``.

    Raises ``UserError`` where the student has no head or there are no samples.
    """
    if student.head is None:
        raise UserError("this model is a backbone without classes, so it predicts nothing: finetune it first, or use features (kNN, probes)")
    device = device_of(student) if device is None else device
    student.to(device)
    with evaluating(student):
        return torch.cat([student(inputs).float().cpu() for inputs in plain_inputs(samples, batch, device)])


def answers(student: Student, samples: Samples, batch: int = 512) -> tuple[Tensor, Tensor]:
    """Logits float32 ``[M, C]`` of the plain view and what is right, int64 ``[M]``: of every labelled sample, or of every labelled pixel."""
    if not isinstance(student, Segmenter):
        return predict(student, samples, batch), samples.labels
    logits = predict(student, samples, batch).movedim(1, -1)
    truth = torch.cat([part.view("plain").truth for part in samples.batches(batch)])  # type: ignore[misc]
    known = truth != maths.UNLABELLED
    return logits[known], truth[known].long()


def features(student: Student, samples: Samples, batch: int = 512, device: torch.device | str | None = None) -> Tensor:
    """Pooled features of the plain view, float32 ``[N, D]`` on the CPU."""
    device = device_of(student) if device is None else device
    student.to(device)
    with evaluating(student):
        return torch.cat([student.features(inputs).pooled.float().cpu() for inputs in plain_inputs(samples, batch, device)])


def inside(student: Student, inputs: Inputs) -> tuple[Features, list[Tensor]]:
    """The student's features, and the tokens that reach each of its exits."""
    paths = [f"backbone.blocks.{block}" for block in exits(student).after]
    with Taps(student, paths) as taps:
        features = student.features(inputs)
    return features, [taps[path] for path in paths]


def early(student: Student, inputs: Inputs, confidence: float) -> tuple[Tensor, Tensor]:
    """Logits ``[B, C]`` from the first exit whose largest probability exceeds ``confidence``, or from the head; and how many blocks each sample took, int64 ``[B]``.

    Samples that have left are not computed any further.
    """
    backbone, at = cast(Transformer, student.backbone), dict(zip(exits(student).after, exits(student), strict=True))
    with evaluating(student):
        content, places, _ = backbone.embed(inputs)
        x = content + places
        waiting = torch.arange(len(x), device=x.device)
        taken = torch.full_like(waiting, len(backbone.blocks))
        logits = x.new_empty(len(x), len(student.classes))
        for number, block in enumerate(backbone.blocks):
            x = block(x)
            if number in at:
                said = at[number](x).logits
                sure = said.softmax(-1).amax(-1) > confidence
                logits[waiting[sure]], taken[waiting[sure]] = said[sure], number + 1
                waiting, x = waiting[~sure], x[~sure]
        logits[waiting] = student.logits(Features(backbone.norm(pooled_mean(x, None)), backbone.norm(x)))
    return logits, taken


def exits(student: Student) -> Exits:
    """The student's exits. Raises UserError where it has none."""
    if student.exits is None:
        raise UserError("this model has no early exits; lgvit gives it some")
    return student.exits
