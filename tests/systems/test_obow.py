"""OBoW: it learns, the words are past local features, and the bag is of the image and not of a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import evaluate, models
from understudy.data import known
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models import Student
from understudy.systems.ssl_bootstrap.obow import averaged, pick

TINY: dict[str, Any] = {"words": 128, "crop_scale": (0.5, 1.0), "patches": 0, "momentum": 0.95}
COMMON: dict[str, Any] = {"train__batch": 64, "optim__name": "adamw", "optim__lr": 1e-2}


def start(data: Any) -> Student:
    return models.build("tiny-resnet", data.modality, (), 0, widths=(8, 16, 32))


def test_it_learns(tmp_path: Path) -> None:
    train, test = hold_out(known.digits(), 0.3, 0)

    def worth(student: Student) -> float:
        return evaluate.few_shot(evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels, 5, key=0).mean

    first = start(train)
    taught = made("obow", train, tmp_path, first, TINY, train__steps=120, **COMMON).run().student
    assert worth(taught) > worth(first) + 0.05


def started(folder: Path, **settings: Any) -> Any:
    objective = made("obow", known.digits(), folder, start(known.digits()), {**TINY, **settings}, **COMMON)
    objective.steps = 10
    return objective.train()


def test_the_oldest_words_make_room_for_one_local_feature_of_every_image(tmp_path: Path) -> None:
    objective = started(tmp_path)
    before = [v.features.clone() for v in objective.vocabularies]
    objective.losses(known.digits().batch(torch.arange(32)))
    assert all(torch.equal(v.features, old) for v, old in zip(objective.vocabularies, before, strict=True))  # not before the step
    objective.after_step()
    for vocabulary, old, words in zip(objective.vocabularies, before, objective.arriving, strict=True):
        assert torch.equal(vocabulary.features[:32], words) and torch.equal(vocabulary.features[32:], old[32:])
    torch.testing.assert_close(objective.typical, objective.nearest)  # the first step sets the distance


def test_the_teacher_gets_no_gradient_and_bags_sum_to_one(tmp_path: Path) -> None:
    objective = started(tmp_path, patches=1, crops=1)
    batch = known.digits().batch(torch.arange(16))
    losses = objective.losses(batch)
    assert set(losses) == {"crops", "patches"} and all(loss.shape == (16,) for loss in losses.values())
    sum(loss.sum() for loss in losses.values()).backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert all(torch.allclose(bag.sum(-1), torch.ones(16)) for bag in objective.bags(batch))


def test_local_features_are_means_of_neighbours_picked_by_place() -> None:
    local = torch.arange(16.0).view(1, 16, 1)
    assert averaged(local).flatten().tolist() == [5.0, 6.0, 9.0, 10.0]
    assert torch.equal(averaged(local[:, :4]), local[:, :4])  # 2 x 2: too small
    assert pick(local, torch.tensor([0.5])).item() == 8.0


def test_nothing_to_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing"):
        started(tmp_path, crops=0)
