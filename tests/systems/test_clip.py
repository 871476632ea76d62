"""CLIP: names it has read make a classifier, and images and captions stay in step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.models.zero_shot import by_names


def digits_in(samples: Samples) -> Samples:
    """Told apart by the colour alone."""
    return Samples(samples.modality.image, samples.encoded, samples.ids, samples.labels // 10, tuple(known.COLOURS), samples.positions)  # type: ignore[attr-defined]


def test_names_of_colours_are_understood_after_reading_captions() -> None:
    train, test = hold_out(known.captioned_digits(1), 0.3, 100)
    start = models.build("tiny-clip", train.modality, (), 0, width=32, heads=2)
    learned = learn("clip", start, train, seed=100, steps=60, train__batch=64, optim__lr=3e-3, watch__action="off").student
    told, untold = (accuracy(by_names(student, tuple(known.COLOURS), ("a {} one", "written in {}")), digits_in(test)) for student in (learned, start))
    assert told > 0.7 and told > untold + 0.3


def test_both_encoders_and_the_scale_learn_and_the_scale_is_bounded(tmp_path: Path) -> None:
    data = known.captioned_digits(1).take(torch.arange(64))
    system = made("clip", data, tmp_path, "tiny-clip", {"most": 20.0})
    loss = system.losses(data.batch(torch.arange(16)))["contrast"]
    assert loss.dim() == 0
    loss.backward()
    model = system.model
    for parameter in (model.scale, model.from_image.weight, model.from_text.weight, model.image.patches.weight, model.text.vocabulary.weight):
        assert parameter.grad.abs().sum() > 0
    model.scale.data.fill_(9.0)
    with torch.no_grad():
        system.after_step()
    assert float(model.scale.detach()) == pytest.approx(math.log(20.0))


def test_equal_captions_of_a_batch_are_no_reason_to_fail(tmp_path: Path) -> None:
    data = known.captioned_digits(1).take(torch.arange(4))
    system = made("clip", data, tmp_path, "tiny-clip")
    assert math.isfinite(float(system.losses(data.batch(torch.tensor([1, 1, 1])))["contrast"].detach()))
