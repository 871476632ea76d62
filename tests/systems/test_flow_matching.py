"""Flow matching: it draws digits, and its average is what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.systems.training import made, task
from understudy import keyed, maths, models, systems
from understudy.claims import learn
from understudy.data import known
from understudy.errors import UserError
from understudy.models import painting

KEYS = torch.as_tensor(keyed.fold(1, torch.arange(200)))


def test_what_it_draws_comes_nearer_to_the_digits() -> None:
    data = known.digits()
    start = models.build("tiny-dit", data.modality, (), 0, width=48, depth=2)
    learned = learn("flow-matching", start, data, seed=100, steps=120, optim__lr=5e-3).student
    real = data.encoded.raw(torch.arange(600))["image"].flatten(1) / 255

    def distance(student: models.Student) -> float:
        return float(maths.frechet(painting.paint(student, KEYS, 10).flatten(1), real))

    assert distance(learned) < 0.4 * distance(start)


def test_the_result_is_the_average_and_pictures_are_left_behind(tmp_path: Path) -> None:
    system = made("flow-matching", known.digits().take(torch.arange(64)), tmp_path, "tiny-dit", {"momentum": 0.5, "steps": 2}, train__steps=3, train__batch=16)
    outcome = system.run()
    assert outcome.student is system.average.student and outcome.student.head is None
    ours, theirs = (torch.cat([p.flatten() for p in m.parameters()]) for m in (outcome.student, system.student))
    assert not torch.equal(ours, theirs)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (32, 32)


def test_it_needs_a_model_that_makes_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="flow-matching needs a model that makes images"):
        systems.get("flow-matching")(systems.get("flow-matching").Settings(), task(known.digits(), tmp_path, slug="flow-matching"))
