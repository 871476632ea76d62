"""SE mixup: easy before hard, and labels that the model's own answers soften without teaching it to agree with itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import keyed, maths, models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.data.split import hold_out
from understudy.models.predict import predict
from understudy.systems.sd.se_mixup import parted


def test_mixing_adds_to_the_labels_it_began_with() -> None:
    """The trap is the hard half: a model that sees it alone must not forget the easy one."""
    train, test = hold_out(known.digits(), 0.3, 7)
    few = known.few_labels(train, 10, 7)
    start = models.build("tiny-resnet", train.modality, train.classes, 7)
    began = accuracy(learn("supervised", start, few, seed=7, steps=48, settings={"view": "plain"}, optim__lr=1e-2).student, test)
    learned = accuracy(learn("se-mixup", start, few, seed=7, steps=120, optim__lr=1e-2).student, test)
    assert learned > began + 0.04, f"{learned:.3f} is not above the {began:.3f} of the first stage alone"


def test_what_it_is_surest_of_in_a_class_is_easy() -> None:
    data = known.digits().take(torch.arange(101))
    student = models.build("tiny-resnet", data.modality, data.classes, 3)
    easy, hard = parted(data, student, 0.5)
    assert sorted(easy.ids + hard.ids) == sorted(data.ids)

    def sure(samples: Any, c: int) -> torch.Tensor:
        return predict(student, samples).softmax(-1)[samples.labels == c, c]

    for c in range(10):
        assert float(sure(easy, c).min()) > float(sure(hard, c).max()) and len(sure(easy, c)) - len(sure(hard, c)) in (0, 1)


def test_where_all_is_easy_nothing_is_lost() -> None:
    data = known.digits().take(torch.arange(10))  # one of each digit
    easy, hard = parted(data, models.build("tiny-resnet", data.modality, data.classes, 3), 0.5)
    assert easy.ids == hard.ids == data.ids


def test_the_easy_half_is_mixed_before_the_hard(tmp_path: Path) -> None:
    data = known.few_labels(known.digits(), 4, 1)
    outcome = made("se-mixup", data, tmp_path, settings={"first": 0.5, "easy": 0.25}, train__steps=8, train__batch=8).run()
    stages = [json.loads((path / "stage.json").read_text()) for path in sorted((tmp_path / "stages").iterdir())]
    assert [stage["system"] for stage in stages] == ["supervised", "se-mixup-student", "se-mixup-student"]
    assert outcome.facts == {"easy": 10, "hard": 30}


def mixing(folder: Path, **settings: float) -> tuple[Any, Any, Any]:
    data = known.digits()
    objective = made("se-mixup-student", data, folder, "tiny-resnet", settings).eval()
    return objective, data.batch(torch.arange(8), key=2), data.batch(torch.arange(20, 28), key=2)


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_the_loss_is_that_of_a_mixed_target(smoothing: float, tmp_path: Path) -> None:
    objective, one, other = mixing(tmp_path, smoothing=smoothing, alpha=0.7)
    w = keyed.beta(one.random("mixup"), 0.7).unsqueeze(1)
    with torch.no_grad():
        h = [objective.student.features(batch.view("plain").inputs).pooled for batch in (one, other)]
        head = objective.student.head
        soft = [(1 - smoothing) * batch.soft_labels() + smoothing * head(seen).softmax(-1) for batch, seen in zip((one, other), h, strict=True)]
        wanted = -((w * soft[0] + (1 - w) * soft[1]) * head(w * h[0] + (1 - w) * h[1]).log_softmax(-1)).sum(-1)
        torch.testing.assert_close(objective.losses(one, other)["mixed"], wanted)


def test_its_own_answers_get_no_gradient(tmp_path: Path) -> None:
    """With them alone for labels and a sample for its own partner, the loss is an entropy; with a gradient through the target it would be another one."""
    objective, one, _ = mixing(tmp_path, smoothing=1.0)
    torch.nn.init.normal_(objective.student.head.weight, std=0.5)
    objective.losses(one, one)["mixed"].sum().backward()
    assert float(objective.student.head.bias.grad.abs().max()) < 1e-5
    objective.zero_grad()
    logits = objective.student(one.view("plain").inputs)
    maths.entropy(logits.softmax(-1)).sum().backward()
    assert float(objective.student.head.bias.grad.abs().max()) > 1e-3
