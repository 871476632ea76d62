"""W-MSE: it learns without labels, and whitening is what keeps it from collapse."""

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
from understudy.maths import decorrelation
from understudy.models import Student

TINY: dict[str, Any] = {"view": "strong", "width": 16, "hidden": 64}
COMMON: dict[str, Any] = {"train__batch": 64, "optim__lr": 1e-2}


def start(data: Any) -> Student:
    return models.build("tiny-resnet", data.modality, (), 0, widths=(8, 16, 32))


def test_it_learns(tmp_path: Path) -> None:
    train, test = hold_out(known.digits(), 0.3, 0)

    def worth(student: Student) -> float:
        return evaluate.knn(evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels).value

    first = start(train)
    taught = made("w-mse", train, tmp_path, first, TINY, train__steps=120, **COMMON).run().student
    assert worth(taught) > worth(first) + 0.1


def test_without_whitening_it_collapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rank(name: str) -> float:
        objective = made("w-mse", known.digits(), tmp_path / name, start(known.digits()), TINY, train__steps=60, watch__action="off", **COMMON)
        return float(objective.run().facts["rank"])

    whitened = rank("whitened")
    monkeypatch.setattr(decorrelation, "whitened", lambda z, eps: z)
    assert rank("not") < 0.5 * whitened


def test_a_part_too_small_to_whiten_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="singular"):
        made("w-mse", known.digits(), tmp_path, start(known.digits()), {"width": 64, "parts": 2}, train__batch=128)


def test_every_partition_holds_every_sample_once_and_is_another_one(tmp_path: Path) -> None:
    objective = made("w-mse", known.digits(), tmp_path, start(known.digits()), {**TINY, "partitions": 3, "parts": 2}, **COMMON)
    batch = known.digits().batch(torch.arange(64), key=5)
    parts = objective.parts(batch)
    partitions = [torch.cat(parts[i : i + 2]) for i in (0, 2, 4)]
    assert [len(part) for part in parts] == [32] * 6
    assert all(torch.equal(p.sort().values, torch.arange(64)) for p in partitions) and not torch.equal(partitions[0], partitions[1])
    objective.step = 1
    assert not torch.equal(torch.cat(objective.parts(batch)[:2]), partitions[0])
