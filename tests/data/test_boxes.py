"""A folder of images with boxes: what is read, what goes to quarantine, and what is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from understudy.data.samples import Samples
from understudy.data.source import open_source
from understudy.errors import UserError


def picture(place: Path, number: int) -> str:
    """A bright rectangle of a brightness of its own; returns the line that says where it is."""
    pixels = np.full((24, 32), 10 + number, np.uint8)
    left, top = 5 + number % 8, 2 + number % 9
    pixels[top : top + 8, left : left + 12] = 150 + number
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place)
    return f"{number % 3} {(left + 6) / 32:.6f} {(top + 4) / 24:.6f} {12 / 32:.6f} {8 / 24:.6f}\n"


def folder(root: Path, count: int = 20, boxed: int = 12, names: str = "cat\ndog\ncow\n", images: str = "images", labels: str = "labels") -> Path:
    (root / labels).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        line = picture(root / images / f"{i:02d}.png", i)
        if i < boxed:
            (root / labels / f"{i:02d}.txt").write_text(line)
    if names:
        (root / "classes.txt").write_text(names)
    return root


def truth(samples: Samples) -> torch.Tensor:
    found = samples.batch(torch.arange(len(samples))).view("plain").truth
    assert found is not None
    return found


def test_images_with_boxes_are_recognised_and_those_without_a_file_are_unlabelled(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "labels" / "03.txt").write_text("")
    (tmp_path / "labels" / "04.txt").write_text("0 0.5 0.5 0.2 0.2\n\n2 0.5 0.5 0.5 0.5 0.87\n")
    found = open_source(tmp_path)
    train = found.train
    assert found.modality == "detection" and train.classes == ("cat", "dog", "cow")
    assert len(train) == 20 and len(train.labelled) == 12
    boxes = truth(train)
    for i, (name, label) in enumerate(zip(train.ids, train.labels.tolist(), strict=True)):
        number = int(name[:2])
        assert (label == 0) == (number < 12)
        if number == 3 or number >= 12:
            assert bool((boxes[i, :, 4] == -1).all())
        elif number == 4:
            assert boxes[i, :, 4].tolist() == [0, 2]
        else:
            x = (5 + number % 8 - 4) / 24 * 2 - 1  # the central square begins at 4 pixels of 32
            assert boxes[i, 0, 4] == number % 3 and float(boxes[i, 0, 0]) == pytest.approx(x, abs=1e-4)
            assert float(boxes[i, 0, 1]) == pytest.approx((2 + number % 9) / 24 * 2 - 1, abs=1e-4)
    said = found.describe()
    assert any("12 labelled, 8 unlabelled" in line for line in said) and any("12 boxes in 3 classes: cat 4" in line for line in said)


@pytest.mark.parametrize("form", ["beside", "roboflow", "split"])
def test_the_layouts_of_others_are_read(tmp_path: Path, form: str) -> None:
    if form == "beside":
        folder(tmp_path, images=".", labels=".")
    elif form == "roboflow":
        folder(tmp_path / "train", images="images", labels="labels", names="")
        folder(tmp_path / "valid", count=6, boxed=6, names="")
        (tmp_path / "data.yaml").write_text("train: ../train/images\nnc: 3\nnames: ['cat', 'dog', 'cow']\n")
    else:
        folder(tmp_path, images="images/train", labels="labels/train", names="")
        folder(tmp_path, count=6, boxed=6, images="images/val", labels="labels/val", names="")
        (tmp_path / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n  2: cow\n")
    found = open_source(tmp_path)
    assert found.modality == "detection" and found.train.classes == ("cat", "dog", "cow")
    assert (found.test is not None) == (form != "beside")
    # Six of the test images are copies of training images here.
    assert len(found.train) == (20 if form == "beside" else 14) and (found.test is None or len(found.test) == 6)


def test_one_wrong_file_makes_no_captions_of_boxes(tmp_path: Path) -> None:
    folder(tmp_path, images=".", labels=".")
    (tmp_path / "00.txt").write_text("none 1 2 3 4\n")
    found = open_source(tmp_path)
    assert found.modality == "detection" and len(found.facts.unreadable) == 1


def test_text_files_with_sentences_are_captions(tmp_path: Path) -> None:
    for i in range(4):
        picture(tmp_path / f"{i}.png", i)
        (tmp_path / f"{i}.txt").write_text(f"{i} grey rectangles")
    assert open_source(tmp_path).modality == "image-text"


def coco(root: Path) -> dict[str, list[dict[str, object]]]:
    images, annotations = [], []
    for i in range(12):
        line = picture(root / "images" / f"{i:02d}.png", i).split()
        x, y, width, height = (float(word) * side for word, side in zip(line[1:], (32, 24, 32, 24), strict=True))
        if i < 9:
            images.append({"id": 100 + i, "file_name": f"{i:02d}.png", "width": 32, "height": 24})
            annotations.append({"id": i, "image_id": 100 + i, "category_id": 7 * (1 + i % 3), "bbox": [x - width / 2, y - height / 2, width, height]})
    return {"images": images, "annotations": annotations, "categories": [{"id": 14, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 21, "name": "cow"}]}


def test_coco_files_say_the_same(tmp_path: Path) -> None:
    said = coco(tmp_path / "coco")
    said["annotations"].append({"id": 99, "image_id": 100, "category_id": 7, "bbox": [0, 0, 32, 24], "iscrowd": 1})
    (tmp_path / "coco" / "annotations").mkdir()
    (tmp_path / "coco" / "annotations" / "instances.json").write_text(json.dumps(said))
    found, other = open_source(tmp_path / "coco"), open_source(folder(tmp_path / "yolo", 12, 9))
    assert found.train.classes == other.train.classes and torch.equal(found.train.labels, other.train.labels)
    torch.testing.assert_close(truth(found.train), truth(other.train), atol=1e-5, rtol=0)
    assert any("1 boxes around crowds are left out" in note for note in found.facts.notes)
    said["annotations"][2]["bbox"] = [0, 0, "wide", 3]
    said["annotations"][3]["bbox"] = [50, 0, 4, 3]
    said["annotations"][4]["category_id"] = 8
    (tmp_path / "coco" / "annotations" / "instances.json").write_text(json.dumps(said))
    reasons = [reason for _, reason in open_source(tmp_path / "coco").facts.unreadable]
    assert len(reasons) == 3 and "not four numbers" in reasons[0] and "not inside of 32 x 24 pixels" in reasons[1] and "category 8" in reasons[2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "is '0 0.5 0.5 0.2' and not five numbers"),
        ("cat 0.5 0.5 0.2 0.2", "and not five numbers"),
        ("0 nan 0.5 0.2 0.2", "and not five numbers"),
        ("0 12 8 10 10", "has the box 12 8 10 10, and middle, width and height are shares of the image"),
        ("0 0.5 0.5 0 0.2", "are shares of the image"),
        ("0 0.5 0.5 -0.1 0.2", "are shares of the image"),
        ("3 0.5 0.5 0.2 0.2", "has the class 3, and there are 3, from 0 on"),
        ("0.5 0.5 0.5 0.2 0.2", "has the class 0.5"),
    ],
)
def test_a_wrong_line_sets_its_image_aside(tmp_path: Path, line: str, reason: str) -> None:
    folder(tmp_path)
    (tmp_path / "labels" / "05.txt").write_text(f"1 0.5 0.5 0.1 0.1\n{line}\n")
    found = open_source(tmp_path)
    assert len(found.train) == 19 and len(found.facts.unreadable) == 1
    path, why = found.facts.unreadable[0]
    assert path.endswith("05.png") and why.startswith("line 2 of") and reason in why


def test_broken_files_go_to_quarantine(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "labels" / "05.txt").write_bytes(b"\xff\xfe\x00")
    whole = (tmp_path / "images" / "06.png").read_bytes()
    (tmp_path / "images" / "06.png").write_bytes(whole[: len(whole) // 2])
    found = open_source(tmp_path)
    assert [Path(path).name for path, _ in found.facts.unreadable] == ["05.png", "06.png"] and "no UTF-8" in found.facts.unreadable[0][1]


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    found = open_source(folder(tmp_path, names=""))
    assert found.train.classes == ("0", "1", "2") and any("called by their numbers" in note for note in found.facts.notes)


def test_large_data_are_decoded_again_with_their_boxes(tmp_path: Path) -> None:
    there, anew = (open_source(folder(tmp_path / str(limit)), memory_limit=limit).train for limit in (1 << 30, 1))
    a, b = (samples.batch(torch.arange(20)).view("weak") for samples in (there, anew))
    assert a.truth is not None and b.truth is not None
    assert torch.equal(a.inputs["pixels"], b.inputs["pixels"]) and torch.equal(a.truth, b.truth)


def test_mistakes_are_said_in_a_sentence(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (tmp_path / "labels.csv").write_text("path,label\n00.png,cat\n")
    with pytest.raises(UserError, match="are its boxes; leave --labels out"):
        open_source(data, labels=tmp_path / "labels.csv")
    with pytest.raises(UserError, match="give a folder with images/ and labels/"):
        open_source(data / "images", modality="detection")
    with pytest.raises(UserError, match="is a file of rows, and boxes are drawn"):
        open_source(tmp_path / "labels.csv", modality="detection")
    with pytest.raises(UserError, match="give boxes of the same classes"):
        open_source(data, test=folder(tmp_path / "test", names="dog\ncat\ncow\n"))
    (data / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(UserError, match="names a class twice"):
        open_source(data)
    (data / "classes.txt").unlink()
    (data / "data.yaml").write_text("names: [cat")
    with pytest.raises(UserError, match="names no classes"):
        open_source(data)
    (data / "data.yaml").unlink()
    for i, name in enumerate(("a.json", "b.json")):
        (data / name).write_text(json.dumps(coco(tmp_path / str(i))))
    with pytest.raises(UserError, match="2 files of annotations"):
        open_source(data)
