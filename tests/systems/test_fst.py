"""FST: its trial steps leave nothing behind but the teacher, and without them it is a mean teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import maths, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.composed import few_drawn, scenes
from understudy.data.samples import Samples
from understudy.errors import UserError


def things() -> Samples:
    """Zeros and ones."""
    digits = known.digits()
    return replace(digits.take(digits.labels < 2), classes=("0", "1"))


def drawn(seed: int, count: int) -> Samples:
    return scenes(things(), count, seed, size=24, objects=1, distractors=0, least=14, most=18)


def one(tmp_path: Path, **settings: Any) -> tuple[Any, dict[str, Any]]:
    data = few_drawn(drawn(0, 16), 8, 0)
    system = made("fst", data, tmp_path, "tiny-unet", settings={"threshold": 0.0, **settings}, train__batch=4)
    system.train()
    system.step = 5
    system.lengths.fill_(0.05)
    return system, {"labelled": data.labelled.batch(torch.arange(4), step=5), "unlabelled": data.unlabelled.batch(torch.arange(4), step=5)}


@pytest.mark.parametrize("look", ["deep", "wide"])
def test_trial_steps_leave_nothing_behind_but_the_teacher(look: str, tmp_path: Path) -> None:
    system, batches = one(tmp_path, look=look, ahead=2)
    before = {name: p.clone() for name, p in system.student.named_parameters()}
    taught = [p.clone() for p in system.teacher.student.parameters()]
    system.losses(**batches)
    assert all(torch.equal(p, before[name]) for name, p in system.student.named_parameters())
    assert all(p.grad is None for p in system.student.parameters())
    assert all(not p.requires_grad for p in system.teacher.student.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(system.teacher.student.parameters(), taught, strict=True))
    norms = [m for m in system.student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    twin, same = one(tmp_path / "twin", ahead=0)
    twin.losses(**same)
    # The statistics have seen the real step's batches once, whatever was tried before.
    for a, b in zip(norms, (m for m in twin.student.modules() if isinstance(m, torch.nn.BatchNorm2d)), strict=True):
        torch.testing.assert_close(a.running_mean, b.running_mean)


def test_a_trial_step_goes_down_the_gradient_as_far_as_the_last_real_one(tmp_path: Path) -> None:
    system, batches = one(tmp_path, ahead=1)
    theta = {name: p.detach() for name, p in system.learned().items()}
    future = system.stepped(theta, **batches)
    for name, weight in theta.items():
        assert float((future[name] - weight).norm()) == pytest.approx(0.05, rel=1e-3) or torch.equal(future[name], weight)
    near = {name: weight + 0.02 * (future[name] - weight) for name, weight in theta.items()}

    def loss(weights: dict[str, torch.Tensor]) -> float:
        answer = lambda inputs: torch.func.functional_call(system.student, weights, (inputs,))  # noqa: E731
        return float(sum(term.mean() for term in system.terms(answer, **batches).values()))

    assert loss(near) < loss(theta)


def test_without_trial_steps_the_teacher_is_the_average_of_the_past(tmp_path: Path) -> None:
    system, batches = one(tmp_path, ahead=0, momentum=0.5)
    with torch.no_grad():
        for p in system.student.parameters():
            p.add_(0.1)
    before = [p.clone() for p in system.teacher.student.parameters()]
    system.losses(**batches)
    for own, old, student in zip(system.teacher.student.parameters(), before, system.student.parameters(), strict=True):
        torch.testing.assert_close(own, 0.5 * old + 0.5 * student)


def test_the_truth_of_unlabelled_images_is_never_looked_at(tmp_path: Path) -> None:
    whole = drawn(0, 16)
    few = few_drawn(whole, 8, 0)
    told = Samples(few.modality, whole.encoded, few.ids, few.labels, few.classes)
    weights = [
        learn("fst", models.build("tiny-unet", few.modality, few.classes, 0), data, seed=0, steps=2, settings={"threshold": 0.0}, train__batch=4).student
        for data in (few, told)
    ]
    assert all(torch.equal(a, b) for a, b in zip(weights[0].parameters(), weights[1].parameters(), strict=True))


def test_the_teachers_labels_move_with_the_strong_view(tmp_path: Path) -> None:
    """A teacher that is right everywhere on the weak view labels the strong view as its own truth does."""
    system, batches = one(tmp_path, ahead=0)
    labelled = batches["labelled"]
    truth = labelled.view("weak").truth
    right = torch.nn.functional.one_hot(truth.long().clamp_max(2), 3).movedim(-1, 1) * 50.0
    del system.teacher  # a module: only then may a function take its place
    system.teacher = lambda batch, view: type("Said", (), {"logits": right})()
    seen: list[torch.Tensor] = []
    original = maths.pixel_cross_entropy
    try:
        maths.pixel_cross_entropy = lambda logits, classes: (seen.append(classes), original(logits, classes))[1]
        system.terms(system.student, labelled, labelled)
    finally:
        maths.pixel_cross_entropy = original
    strong = labelled.view("strong").truth
    both = (
        (seen[1] != 255) & (strong != 255) & (maths.carried(truth, maths.between(labelled.view("strong").place, labelled.view("weak").place), 24, 255) != 255)
    )
    assert float((seen[1] == strong)[both].float().mean()) > 0.95


def test_it_takes_masks_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fst works on segmentation, and the data are image"):
        made("fst", known.few_labels(known.digits(), 3, 0), tmp_path, "tiny-resnet")
    with pytest.raises(UserError, match="fixmatch works on"):
        made("fixmatch", few_drawn(drawn(0, 8), 4, 0), tmp_path, "tiny-unet")
