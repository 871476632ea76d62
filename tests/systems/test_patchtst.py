"""PatchTST: hidden patches teach features, and neither channels nor hidden steps tell what is to be rebuilt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.systems.training import made
from understudy import evaluate, models
from understudy.data import known
from understudy.data.modalities.series import SeriesModality
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models import Student


def rows_of_digits() -> Samples:
    """The handwritten digits as eight channels along eight steps: each row of pixels from left to right."""
    digits = known.digits()
    series = digits.encoded.raw(digits.positions)["image"][:, 0].float() / 128 - 1
    modality = SeriesModality([f"row {i}" for i in range(8)], 8)
    steps = torch.full((len(digits),), 8)
    return Samples(modality, InMemory({"series": series, "steps": steps}), digits.ids, digits.labels, digits.classes)


def start(data: Samples) -> Student:
    return models.build("tiny-series", data.modality, data.classes, 0, patch=2)


def test_hidden_patches_teach_features(tmp_path: Path) -> None:
    train, test = hold_out(rows_of_digits(), 0.3, 7)
    first = start(train)

    def worth(student: Student) -> float:
        seen = evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels
        return evaluate.few_shot(*seen, shots=5, key=7).mean

    taught = made("patchtst", train, tmp_path, first, train__steps=120, train__batch=64, optim__lr=5e-3).run().student
    assert worth(taught) > worth(first) + 0.05


def test_the_share_of_every_channel_is_hidden(tmp_path: Path) -> None:
    data = rows_of_digits()
    system = made("patchtst", data, tmp_path, start(data), {"ratio": 0.5})
    masked = data.batch(torch.arange(16)).view("masked", **system.masking).masked
    assert (masked.view(16, 8, 4).sum(2) == 2).all() and len(masked.view(16, 8, 4).unique(dim=1)[0]) > 1


def test_the_loss_does_not_depend_on_what_the_hidden_steps_were_but_for_the_target(tmp_path: Path) -> None:
    """Mean and deviation of the whole channel would tell of what is hidden; here the same visible steps give the same guesses."""
    data = rows_of_digits()
    system = made("patchtst", data, tmp_path, start(data)).eval()
    view = data.batch(torch.arange(8)).view("masked", **system.masking)
    steps = view.masked.view(8, 8, 4).repeat_interleave(2, 2)
    other = {**view.inputs, "series": torch.where(steps, 50.0, view.inputs["series"])}
    backbone = system.student.backbone
    assert torch.equal(backbone(view.inputs, view.masked).tokens, backbone(other, view.masked).tokens)


def test_other_models_and_other_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="works on series"):
        made("patchtst", known.digits(), tmp_path)
