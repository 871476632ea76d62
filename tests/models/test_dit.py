"""The diffusion transformer as a backbone and as a painter: what it starts as, what its pictures depend on, who else cannot paint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy import keyed, models
from understudy.data import known
from understudy.data.modalities.image import ImageModality
from understudy.errors import UserError
from understudy.models import painting

KEYS = torch.as_tensor(keyed.fold(1, torch.arange(6)))


def moved(student: models.Student) -> models.Student:
    """With weights as after some training: a fresh one says zero everywhere."""
    for number, parameter in enumerate(student.parameters()):
        parameter.data += 0.05 * keyed.normal(keyed.fold(3, number), parameter.shape)
    return student.eval()


def test_it_starts_by_saying_nothing_and_every_block_as_the_identity() -> None:
    model = models.build("tiny-dit", known.digits().modality, (), 0).backbone
    x = keyed.normal(KEYS, (1, 8, 8))
    v, seen = model.velocity(x, torch.linspace(0, 1, 6))  # type: ignore[operator]
    assert v.shape == x.shape and float(v.detach().abs().max()) == 0.0
    assert seen.tokens.shape == (6, 16, 64) and seen.pooled.shape == (6, 64)


def test_features_are_those_of_a_clean_image_and_the_time_matters() -> None:
    data = known.digits()
    student = moved(models.build("tiny-dit", data.modality, ("a", "b"), 0))
    inputs = data.batch(torch.arange(6)).view("plain").inputs
    model = painting.painter(student)
    v, seen = model.velocity(model.scaled(inputs), torch.zeros(6))
    torch.testing.assert_close(student.features(inputs).pooled, seen.pooled)
    assert student(inputs).shape == (6, 2)
    assert not torch.allclose(v, model.velocity(model.scaled(inputs), torch.ones(6))[0])
    hidden = torch.zeros(6, model.positions(inputs), dtype=torch.bool)
    hidden[:, :8] = True
    other = {"pixels": inputs["pixels"].clone()}
    other["pixels"][:, :, :4] = 0.3
    torch.testing.assert_close(model(inputs, hidden).pooled, model(other, hidden).pooled, msg="nothing of a hidden place gets through")


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (10, 3), (28, 1)])
def test_pictures_have_the_data_s_shape_and_are_their_keys_own(size: int, channels: int) -> None:
    student = moved(models.build("tiny-dit", ImageModality(size, channels), (), 0, width=32, depth=2))
    drawn = painting.paint(student, KEYS, 3)
    assert drawn.shape == (6, channels, size, size) and 0 <= float(drawn.min()) < float(drawn.max()) <= 1
    torch.testing.assert_close(painting.paint(student, KEYS[[4, 1]], 3), drawn[[4, 1]])
    sheet = painting.sheet(drawn)
    assert sheet.size == (3 * size, 2 * size) and sheet.mode == ("L" if channels == 1 else "RGB")


def test_one_that_jumps_takes_one_step_and_says_so_when_saved(tmp_path: Path) -> None:
    student = moved(models.build("tiny-dit", known.digits().modality, (), 0))
    student.spec = {**student.spec, "jumps": True}
    models.save(student, tmp_path)
    again = models.load(tmp_path)
    torch.testing.assert_close(painting.paint(again, KEYS, 7), painting.paint(student, KEYS, 2))
    start = painting.noise(painting.painter(student), KEYS)
    expected = ((painting.jumped(painting.painter(student), start, torch.zeros(6)) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(painting.paint(student, KEYS), expected.detach())


def test_a_classifier_cannot_paint() -> None:
    with pytest.raises(UserError, match="small-resnet makes none; use tiny-dit"):
        painting.paint(models.build("small-resnet", known.digits().modality, (), 0), KEYS)
