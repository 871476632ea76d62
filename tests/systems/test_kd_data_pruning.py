"""KD on pruned data: which samples are kept, and how much the teacher counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import keyed, models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.models.predict import predict
from understudy.teachers.kinds import Frozen


def first(data: Samples, key: int) -> Student:
    return models.build("tiny-resnet", data.modality, data.classes, key, widths=(8, 16, 32))


def test_a_teacher_of_everything_brings_back_what_was_pruned(tmp_path: Path) -> None:
    train, test = hold_out(known.digits(), 0.4, 100)
    redrawn = keyed.bernoulli(keyed.fold(100, train.keys), 0.2)
    train = train.relabelled(torch.where(redrawn, keyed.integers(keyed.fold(3, train.keys), 10), train.labels))
    common: dict[str, Any] = {"seed": 100, "steps": 150, "train__batch": 64, "optim__lr": 0.01}
    teacher = Frozen(learn("supervised", models.build("tiny-resnet", train.modality, train.classes, 1), train, **common).student)
    taught = learn("kd-data-pruning", first(train, 0), train, teacher=teacher, settings={"fraction": 0.1}, **common).student
    part = made("kd-data-pruning", train, tmp_path, first(train, 0), {"fraction": 0.1}, teacher).samples()["labelled"]
    assert len(part) == 108
    alone = learn("supervised", first(train, 0), part, **common).student
    assert accuracy(taught, test) > accuracy(alone, test) + 0.05


@pytest.mark.parametrize("keep", ["random", "hard", "easy"])
def test_what_is_kept(keep: str, tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(200))
    objective = made("kd-data-pruning", data, tmp_path, first(data, 0), {"fraction": 0.25, "keep": keep}, Frozen(first(data, 1)))
    kept = objective.samples()["labelled"]
    assert len(kept) == 50 and set(kept.ids) <= set(data.ids)
    error = (predict(first(data, 1), data).softmax(-1) - torch.nn.functional.one_hot(data.labels, 10)).square().sum(1)
    of_kept = torch.tensor([error[data.ids.index(i)] for i in kept.ids])
    if keep == "hard":
        assert float(of_kept.min()) >= float(error.quantile(0.74))
    elif keep == "easy":
        assert float(of_kept.max()) <= float(error.quantile(0.26))
    else:
        again = made("kd-data-pruning", data, tmp_path / "again", first(data, 0), {"fraction": 0.25}, Frozen(first(data, 1)))
        assert again.samples()["labelled"].ids == kept.ids


def test_the_labels_share_falls_with_the_samples(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(40))
    batch = data.batch(torch.arange(8))

    def losses(fraction: float) -> dict[str, torch.Tensor]:
        settings = {"fraction": fraction, "label_weight": 0.5}
        return made("kd-data-pruning", data, tmp_path / str(fraction), first(data, 0), settings, Frozen(first(data, 1))).losses(batch)  # type: ignore[no-any-return]

    all_of_it, a_fifth = losses(1.0), losses(0.2)
    torch.testing.assert_close(a_fifth["labels"], 0.2 * all_of_it["labels"])
    torch.testing.assert_close(a_fifth["teacher"], all_of_it["teacher"] * 0.9 / 0.5)
