"""LOOK: it learns, keeps a class in several places, and never asks a sample's own older copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.systems.training import made
from understudy import evaluate, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.models import Student

TINY: dict[str, Any] = {"neighbours": 10, "queue": 512, "width": 32, "hidden": 64, "momentum": 0.9}


def halves(samples: Samples) -> Samples:
    return Samples(samples.modality, samples.encoded, samples.ids, (samples.labels >= 5).long(), ("low", "high"), samples.positions, samples.keys)


def test_it_learns_features_of_digits_from_two_labels() -> None:
    """Worth more than those it began with; that they beat those of cross-entropy is what its claim did not find."""
    train, test = hold_out(known.digits(), 0.4, 101)
    start = models.build("tiny-resnet", train.modality, ("low", "high"), 101, widths=(8, 16, 32))

    def worth(student: Student) -> float:
        return evaluate.few_shot(evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels, 5, key=101).mean

    common: dict[str, Any] = {"seed": 101, "steps": 150, "train__batch": 64, "optim__lr": 1e-2}
    looked = worth(learn("look", start, halves(train), settings=TINY, **common).student)
    assert looked > worth(start) + 0.02


def started(folder: Path, data: Samples, **settings: Any) -> Any:
    objective = made("look", data, folder, models.build("tiny-resnet", data.modality, data.classes, 0, widths=(8, 16, 32)), {**TINY, **settings})
    objective.steps = 10
    return objective.train()


def test_the_queue_takes_the_batch_after_the_step_and_leaves_the_sample_itself_out(tmp_path: Path) -> None:
    data = known.digits()
    objective = started(tmp_path, data)
    batch = data.batch(torch.arange(16))
    first = objective.losses(batch)["vote"]
    assert torch.equal(first, torch.zeros(16)) and not objective.queue.filled.any()  # nobody to ask yet
    objective.after_step()
    assert objective.queue.filled.sum() == 16 and torch.equal(objective.queue.labels[:16], batch.labels)
    others = objective.others(batch)[:, :16]
    assert torch.equal(others, ~torch.eye(16, dtype=torch.bool))
    alone = objective.others(data.batch(torch.arange(20, 24)))
    assert alone[:, :16].all() and not alone[:, 16:].any()


def test_the_bank_is_of_the_average_and_bears_no_gradient(tmp_path: Path) -> None:
    data = known.digits()
    objective = started(tmp_path, data)
    for _ in range(2):
        loss = objective.losses(data.batch(torch.arange(32)))["vote"].mean()
        objective.after_step()
    loss.backward()
    assert all(p.grad is None for p in (*objective.past.parameters(), *objective.past_projector.parameters()))
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.projector.parameters())
    before = [p.clone() for p in objective.past_projector.parameters()]
    for p in objective.projector.parameters():
        p.data += 1.0
    objective.step = 9
    objective.after_step()
    for old, new in zip(before, objective.past_projector.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)  # momentum 0.9
