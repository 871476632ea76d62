"""Self-KD for ambiguity: the lower layers teach, and take the label away only in the last phase and only where they are unsure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import keyed, maths, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models.predict import predict


def test_it_is_less_wrongly_sure_than_with_labels_alone() -> None:
    everything, test = hold_out(known.digits(), 0.5, 1)
    train = everything.take(torch.arange(0, 800, 2))
    redrawn = keyed.bernoulli(keyed.fold(1, train.keys), 0.4)
    train = train.relabelled(torch.where(redrawn, keyed.integers(keyed.fold(3, train.keys), 10), train.labels))
    start = models.build("tiny-resnet", train.modality, train.classes, 1)
    common: dict[str, Any] = {"seed": 1, "steps": 150, "optim__lr": 0.01, "optim__schedule": "constant", "train__batch": 64}

    def unlikelihood(slug: str, **settings: float) -> float:
        logits = predict(learn(slug, start, train, settings={"view": "plain", **settings}, **common).student, test)
        return float(torch.nn.functional.cross_entropy(logits, test.labels))

    assert unlikelihood("self-kd-ambiguity", weight=0.5, threshold=0.9) < unlikelihood("supervised") - 0.05


def started(folder: Path, step: int, **settings: Any) -> Any:
    objective = made("self-kd-ambiguity", known.digits(), folder, "tiny-resnet", settings)
    objective.steps, objective.step = 10, step
    return objective.train()


def test_very_ambiguous_samples_lose_their_label_in_the_last_phase_only(tmp_path: Path) -> None:
    batch = known.digits().batch(torch.arange(16))
    before, after = (started(tmp_path / str(step), step, threshold=0.0, recalibration=0.5).losses(batch) for step in (4, 5))
    assert torch.equal(before["lower"], after["lower"])
    torch.testing.assert_close(after["labels"], after["lower"])  # weight 1: the same distance
    assert not torch.allclose(before["labels"], before["lower"])
    sure = started(tmp_path / "sure", 9, threshold=1.0).losses(batch)
    torch.testing.assert_close(sure["labels"], before["labels"])


def test_the_lower_layers_teach_and_are_not_taught(tmp_path: Path) -> None:
    """The top's distance gives the classifiers no gradient; their own labels do."""
    objective = started(tmp_path, 0)
    losses = objective.losses(known.digits().batch(torch.arange(8)))
    losses["lower"].sum().backward(retain_graph=True)
    assert all(p.grad is None for p in objective.classifiers.parameters())
    losses["classifiers"].sum().backward()
    assert all(p.grad is not None for p in objective.classifiers.parameters())


def test_the_teacher_is_the_mean_of_the_lower_classifiers(tmp_path: Path) -> None:
    objective = started(tmp_path, 0)
    lower = [torch.randn(4, 10, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    torch.testing.assert_close(objective.teach(lower), (lower[0].softmax(-1) + lower[1].softmax(-1)) / 2)
    assert float(maths.certainty(torch.full((1, 10), 0.1))) == pytest.approx(0.0, abs=1e-6)


def test_a_model_with_one_block_is_refused(tmp_path: Path) -> None:
    data = known.digits()
    with pytest.raises(UserError, match="blocks below the last"):
        made("self-kd-ambiguity", data, tmp_path, models.build("tiny-vit", data.modality, data.classes, 0, depth=1, width=16))
