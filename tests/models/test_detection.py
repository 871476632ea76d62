"""The student that finds boxes: what it answers, what it loses, saved and loaded, a head of other classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy import keyed, maths, models
from understudy.data.modalities import DetectionModality, ImageModality, SegmentationModality
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError
from understudy.models import Detector

CLASSES = ("a", "b", "c")


def detector(size: int = 32, name: str = "tiny-boxnet") -> Detector:
    student = models.build(name, DetectionModality(size, 1), CLASSES, 0)
    assert isinstance(student, Detector)
    return student.eval()


def samples(count: int = 6) -> Samples:
    boxes = torch.tensor([[-0.8, -0.6, -0.1, 0.1, 1.0], [0.2, 0.1, 0.9, 0.8, 2.0], [-1.0, -1.0, -1.0, -1.0, -1.0]]).repeat(count, 1, 1)
    image = keyed.integers(keyed.fold(3, torch.arange(count)), 256, (1, 32, 32)).to(torch.uint8)
    ids = tuple(f"{i}" for i in range(count))
    return Samples(DetectionModality(32, 1), InMemory({"image": image, "boxes": boxes}), ids, torch.zeros(count, dtype=torch.int64), CLASSES)


@pytest.mark.parametrize("name", ["tiny-boxnet", "small-boxnet", "base-boxnet", "auto"])
def test_there_is_an_answer_at_every_place(name: str) -> None:
    student = detector(name=name)
    said = student({"pixels": torch.rand(2, 1, 32, 32)})
    assert said.shape == (2, 4 + 3, 16, 16)
    # The places lie within their boxes, and nothing is believed yet.
    steps = (torch.arange(16) + 0.5) / 8 - 1
    assert bool((said[:, 0] < steps).all()) and bool((said[:, 2] > steps).all())
    assert bool((said[:, 1] < steps[:, None]).all()) and bool((said[:, 3] > steps[:, None]).all())
    assert float(said[:, 4:].detach().sigmoid().mean()) == pytest.approx(0.01, rel=0.3)


def test_what_is_said_rightly_costs_little_and_is_found() -> None:
    student, data = detector(), samples()
    view = data.batch(torch.arange(6)).view("plain")
    assert view.truth is not None
    said = student(view.inputs).detach()
    mine, boxes, classes = student._targets(said, view.truth)
    right = said.clone()
    right[:, :4] = boxes.transpose(1, 2).unflatten(2, (16, 16))
    right[:, 4:] = -9.0
    for sample in range(6):
        for place in mine[sample].nonzero().flatten().tolist():
            right[sample, 4 + int(classes[sample, place]), place // 16, place % 16] = 9.0
    assert float(student.lost(right, view).max()) < 1e-3 < float(student.lost(said, view).min())
    found = student.found(right, least=0.5)
    assert found.scores.shape == (6, 100) and bool(((found.scores > 0).sum(1) == 2).all())
    first = found.boxes[0, found.scores[0] > 0]
    assert float(maths.iou(first, view.truth[0, :2, :4]).amax(1).min()) > 0.999
    assert sorted(found.classes[0, found.scores[0] > 0].tolist()) == [1, 2]


def test_nothing_is_lost_on_a_border_that_only_mirrors_the_image() -> None:
    student, data = detector(), samples()
    view = data.batch(torch.arange(6), key=5).view("weak")
    said = student(view.inputs).detach().requires_grad_()
    student.lost(said, view).sum().backward()
    assert said.grad is not None and view.place is not None
    moved = said.grad[:, 4:].abs().sum(1)
    at = (torch.arange(16) + 0.5) / 8 - 1
    for place, gradient in zip(view.place, moved, strict=True):
        right = (place[0, 0] * at + place[0, 2]).abs() <= 1
        down = (place[1, 1] * at + place[1, 2]).abs() <= 1
        assert torch.equal(gradient > 0, down[:, None] & right[None, :])


def test_of_a_place_without_a_box_the_weight_says_how_much_it_counts() -> None:
    student, data = detector(), samples()
    view = data.batch(torch.arange(6)).view("plain")
    assert view.truth is not None
    said = student(view.inputs).detach()
    none, half, all_of_it = (student.class_losses(said, view.truth, torch.full((6, 256), share)) for share in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, (none + all_of_it) / 2)
    assert bool((none < all_of_it).all())


def test_saved_loaded_and_given_other_classes(tmp_path: Path) -> None:
    student = detector()
    models.save(student, tmp_path)
    again, pixels = models.load(tmp_path), {"pixels": torch.rand(2, 1, 32, 32)}
    assert isinstance(again, Detector) and torch.equal(again(pixels), student(pixels))
    other = again.with_head(("x", "y"), 3)
    assert isinstance(other, Detector) and other(pixels).shape == (2, 6, 16, 16) and isinstance(again.reinitialised(1), Detector)
    with pytest.raises(LookupError, match="has no classes"):
        again.with_head((), 0)(pixels)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="reads image, and the data are detection; use"):
        models.build("tiny-resnet", DetectionModality(16, 1), CLASSES, 0)
    for modality in (ImageModality(16, 1), SegmentationModality(16, 1)):
        with pytest.raises(UserError, match="reads detection, and the data are"):
            models.build("tiny-boxnet", modality, CLASSES, 0)
    with pytest.raises(UserError, match="do not fill a view of 23"):
        detector(23)
