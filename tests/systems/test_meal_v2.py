"""MEAL V2: the average of teachers is all that the student learns, and the discriminator pulls as it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.teachers.kinds import Ensemble, Frozen


def test_it_learns_from_teachers_without_a_label() -> None:
    train, test = hold_out(known.digits(), 0.4, 0)
    common: dict[str, Any] = {"seed": 0, "steps": 100, "train__batch": 64, "optim__lr": 0.01, "optim__name": "adamw"}

    def first(key: int) -> Student:
        return models.build("tiny-resnet", train.modality, train.classes, key, widths=(8, 16, 32))

    teachers = [learn("supervised", first(key), train, **common).student for key in (1, 2)]
    student = learn("meal-v2", first(0), known.few_labels(train, 0, 0), teacher=Ensemble([Frozen(t) for t in teachers]), **common).student
    assert accuracy(student, test) > accuracy(first(0), test) + 0.4


def started(folder: Path, **settings: Any) -> Any:
    data = known.digits()
    teachers = [Frozen(models.build("tiny-resnet", data.modality, data.classes, key, widths=(8, 16, 32))) for key in (1, 2)]
    return made("meal-v2", data, folder, models.build("tiny-resnet", data.modality, data.classes, 0, widths=(8, 16, 32)), settings, Ensemble(teachers))


def test_the_target_is_the_mean_of_probabilities(tmp_path: Path) -> None:
    objective = started(tmp_path, discriminator=0.0)
    batch = known.digits().batch(torch.arange(8))
    losses = objective.losses(batch)
    assert set(losses) == {"teachers"}
    inputs = batch.view("weak").inputs
    q = torch.stack([teacher.model(inputs).softmax(-1) for teacher in objective.teacher.teachers]).mean(0)
    want = (q * (q.log() - objective.student(inputs).log_softmax(-1))).sum(-1)
    torch.testing.assert_close(losses["teachers"], want, atol=1e-6, rtol=1e-4)


def test_adversarial_turns_the_students_gradient_round_and_not_the_discriminators(tmp_path: Path) -> None:
    gradients = {}
    for adversarial in (True, False):
        objective = started(tmp_path / str(adversarial), adversarial=adversarial)
        for p in objective.discriminator.parameters():
            p.data.abs_()  # no ReLU is dead
        with torch.no_grad():
            objective.discriminator[0].bias.add_(10.0)
        objective.losses(known.digits().batch(torch.arange(8)))["discriminator"].sum().backward()
        gradients[adversarial] = objective.student.head.weight.grad, objective.discriminator[0].weight.grad
    torch.testing.assert_close(gradients[True][0], -gradients[False][0])
    torch.testing.assert_close(gradients[True][1], gradients[False][1])
    assert gradients[True][0].abs().sum() > 0
