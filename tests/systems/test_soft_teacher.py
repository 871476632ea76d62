"""Soft Teacher: boxes move with the view, the teacher follows and is not taught, and what it is unsure of is not learned."""

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
from understudy.data.composed import boxed_scenes, few_drawn
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.evaluate import BoxMatches


def digits() -> Samples:
    """Zeros and ones."""
    some = known.digits()
    return replace(some.take(some.labels < 2), classes=("0", "1"))


def scenes(things: Samples, count: int, seed: int, shade: float = 0.2) -> Samples:
    return boxed_scenes(things, known.digits(), count, seed, size=24, objects=1, least=9 if shade > 0.2 else 10, most=14, shade=shade)


def one(tmp_path: Path, **settings: Any) -> tuple[Any, Samples, dict[str, Any]]:
    data = few_drawn(scenes(digits(), 24, 0), 8, 0)
    system = made("soft-teacher", data, tmp_path, "tiny-boxnet", settings=settings, train__batch=4)
    system.train()
    system.step = 5
    return system, data, {"labelled": data.labelled.batch(torch.arange(4), step=5), "unlabelled": data.unlabelled.batch(torch.arange(8), step=5)}


def says(boxes: torch.Tensor, score: float) -> torch.Tensor:
    """What a detector says who sees the first of ``boxes`` ``[B, N, 5]`` wherever it should: ``[B, 4 + 2, 12, 12]``."""
    steps = (torch.arange(12) + 0.5) / 6 - 1
    places = torch.stack([steps.repeat(12), steps.repeat_interleave(12)], 1)
    said = torch.full((len(boxes), 6, 144), -9.0)
    said[:, :4] = boxes[:, 0, :4, None]
    which = maths.assigned_boxes(boxes[..., :4], boxes[..., 4] >= 0, places, 1 / 6)
    for sample in range(len(boxes)):
        said[sample, 4 + int(boxes[sample, 0, 4].clamp_min(0)), which[sample] >= 0] = torch.tensor(score).logit()
    return said.unflatten(2, (12, 12))


class Told(torch.nn.Module):
    """A teacher that says what it is told to say."""

    def __init__(self, said: torch.Tensor):
        super().__init__()
        self.said = said

    def forward(self, batch: Any, view: Any) -> Any:
        return type("Said", (), {"logits": self.said})()


def taught(system: Any, monkeypatch: pytest.MonkeyPatch, **batches: Any) -> dict[str, tuple[torch.Tensor, ...]]:
    """What the student is asked to learn in a step: the arguments of its losses on unlabelled views."""
    seen: dict[str, tuple[torch.Tensor, ...]] = {}
    for name in ("class_losses", "box_losses"):
        original = getattr(system.student, name)

        def losses(*arguments: Any, name: str = name, original: Any = original) -> torch.Tensor:
            seen.setdefault(name, arguments)
            return original(*arguments)

        monkeypatch.setattr(system.student, name, losses)
    monkeypatch.setattr(system.student, "lost", lambda said, view: said.sum((1, 2, 3)))
    system.losses(**batches)
    return seen


def test_boxes_are_learned_where_they_lie_in_the_strong_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that finds the true boxes in the weak view teaches those of the strong view."""
    system, data, batches = one(tmp_path, threshold=0.9)
    whole = scenes(digits(), 24, 0)
    told = Samples(data.modality, whole.encoded, data.ids, torch.full((24,), -1), data.classes).batch(torch.arange(12), step=5)
    weak, strong = told.view("weak").truth, told.view("strong").truth
    assert weak is not None and strong is not None
    system.teacher = Told(says(weak, 0.95))
    seen = taught(system, monkeypatch, labelled=batches["labelled"], unlabelled=told)
    pseudo = seen["class_losses"][1]
    overlaps, still = [], []
    for mine, true, before in zip(pseudo, strong, weak, strict=True):
        if true[0, 4] >= 0 and before[0, 4] >= 0 and bool((mine[:, 4] >= 0).any()):
            best = mine[mine[:, 4] >= 0]
            assert best[0, 4] == true[0, 4]
            overlaps.append(float(maths.iou(best[:1, :4], true[:1, :4])))
            still.append(float(maths.iou(before[:1, :4], true[:1, :4])))
    assert len(overlaps) >= 8 and sum(overlaps) / len(overlaps) > 0.8 > 0.65 > sum(still) / len(still)


def test_background_counts_as_far_as_the_teacher_calls_it_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that the teacher is not sure enough of is no object, and hardly background."""
    system, _, batches = one(tmp_path, threshold=0.9)
    box = torch.tensor([[[-0.3, -0.3, 0.3, 0.3, 1.0]]]).expand(8, -1, -1)
    system.teacher = Told(says(box, 0.8))
    for view in ("weak", "strong"):  # nothing moves
        monkeypatch.setitem(batches["unlabelled"]._views, (view, 0, ()), batches["unlabelled"].view("plain"))
    seen = taught(system, monkeypatch, **batches)
    assert bool((seen["class_losses"][1][..., 4] == -1).all())
    empty = seen["class_losses"][2].unflatten(1, (12, 12))
    assert float(empty[0, 6, 6]) == pytest.approx(0.2, abs=1e-4) and float(empty[0, 0, 0]) > 0.99
    hard, _, batches = one(tmp_path / "hard", threshold=0.9, soft_background=False)
    hard.teacher = Told(says(box, 0.8))
    assert bool((taught(hard, monkeypatch, **batches)["class_losses"][2] == 1).all())


def test_a_box_that_does_not_stand_still_under_jitter_is_not_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, _, batches = one(tmp_path, threshold=0.5, candidates=0.5, variance=0.02)
    box = torch.tensor([[[-0.3, -0.3, 0.3, 0.3, 1.0]]]).repeat(8, 1, 1)
    said = says(box, 0.95)
    # Half of the samples have a teacher who says something else a pixel further on.
    checkered = 0.2 * ((torch.arange(12)[:, None] + torch.arange(12)) % 2).float()
    said[4:, :4] += checkered
    system.teacher = Told(said)
    for view in ("weak", "strong"):
        monkeypatch.setitem(batches["unlabelled"]._views, (view, 0, ()), batches["unlabelled"].view("plain"))
    seen = taught(system, monkeypatch, **batches)
    objects, boxes = (seen[name][1][..., 4] >= 0 for name in ("class_losses", "box_losses"))
    assert bool(objects.any(1).all()) and bool(boxes[:4].any(1).all()) and not bool(boxes[4:].any())


def test_the_teacher_gets_no_gradient_and_follows_after_the_step(tmp_path: Path) -> None:
    system, _, batches = one(tmp_path, threshold=0.005, candidates=0.005, variance=9.0, momentum=0.5)
    before = [p.clone() for p in system.teacher.student.parameters()]
    losses = system.losses(**batches)
    torch.cat([loss.flatten() for loss in losses.values()]).sum().backward()
    assert set(losses) == {"labelled", "classes", "boxes"} and losses["classes"].shape == losses["boxes"].shape == (8,)
    assert all(p.grad is None for p in system.teacher.student.parameters())
    assert all(torch.equal(a, b) for a, b in zip(system.teacher.student.parameters(), before, strict=True))
    with torch.no_grad():
        for p in system.student.parameters():
            p.add_(0.1)
    system.after_step()
    for own, old, student in zip(system.teacher.student.parameters(), before, system.student.parameters(), strict=True):
        torch.testing.assert_close(own, 0.5 * old + 0.5 * student)


def test_the_boxes_of_unlabelled_images_are_never_looked_at(tmp_path: Path) -> None:
    whole = scenes(digits(), 24, 0)
    few = few_drawn(whole, 8, 0)
    told = Samples(few.modality, whole.encoded, few.ids, few.labels, few.classes)
    weights = [
        learn("soft-teacher", models.build("tiny-boxnet", few.modality, few.classes, 0), data, seed=0, steps=2, train__batch=4).student for data in (few, told)
    ]
    assert all(torch.equal(a, b) for a, b in zip(weights[0].parameters(), weights[1].parameters(), strict=True))


def test_it_takes_boxes_only(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="soft-teacher works on detection, and the data are image"):
        made("soft-teacher", known.few_labels(known.digits(), 3, 0), tmp_path, "tiny-resnet")


def test_it_beats_the_labels_alone() -> None:
    """From the same student of eight boxes, with as many images for the student and more steps for the labels."""
    train, test = hold_out(digits(), 0.4, 0)
    few, held = few_drawn(scenes(train, 200, 0, 0.4), 8, 0), scenes(test, 100, 1, 0.4)
    start = learn("supervised", models.build("tiny-boxnet", few.modality, few.classes, 0), few, seed=0, steps=200, train__batch=8, optim__lr=1e-2).student

    def precision(slug: str, steps: int, batch: int, **settings: float) -> float:
        learned = learn(slug, start, few, seed=0, steps=steps, settings=settings, train__batch=batch, optim__lr=5e-3, watch__action="off").student
        return BoxMatches.of(learned, held).proportion().value

    assert precision("soft-teacher", 120, 2, momentum=0.95) > precision("supervised", 160, 10) + 0.04
