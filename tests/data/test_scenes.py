"""A folder of images and masks: what is read, what goes to quarantine, and what is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from understudy.data.source import open_source
from understudy.errors import UserError


def folder(root: Path, count: int = 20, masks: int = 12, classes: int = 3) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(count):
        mask = np.zeros((24, 24), np.uint8)
        mask[4:12, i : i + 4] = 1 + i % (classes - 1)
        Image.fromarray(np.stack([mask * 80, mask * 40, mask + i], 2).astype(np.uint8)).save(root / "images" / f"{i:02d}.png")
        if i < masks:
            Image.fromarray(mask).save(root / "masks" / f"{i:02d}.png")
    return root


def test_images_with_masks_are_recognised_and_those_without_are_unlabelled(tmp_path: Path) -> None:
    found = open_source(folder(tmp_path))
    train = found.train
    assert found.modality == "segmentation" and train.classes == ("0", "1", "2")
    assert len(train) == 20 and len(train.labelled) == 12
    truth = train.batch(torch.arange(20)).view("plain").truth
    assert truth is not None
    for i, (name, label) in enumerate(zip(train.ids, train.labels.tolist(), strict=True)):
        number = int(name[:2])
        assert (label == 0) == (number < 12)
        assert int(truth[i, 6, number + 1]) == (1 + number % 2 if number < 12 else 255)
    assert any("12 labelled, 8 unlabelled" in line for line in found.describe()) and any("share of the labelled pixels" in line for line in found.describe())


def test_names_of_classes_come_from_a_file(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    assert open_source(tmp_path).train.classes == ("sky", "road", "car", "tree")
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    with pytest.raises(UserError, match="a pixel of class 2, and classes.txt names 2 classes"):
        open_source(tmp_path)


def test_palette_masks_count_their_entries_and_unsound_ones_go_to_quarantine(tmp_path: Path) -> None:
    folder(tmp_path)
    palette = Image.fromarray(np.full((24, 24), 2, np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0] + [0] * 759)
    palette.putdata([2] * 576)
    palette.save(tmp_path / "masks" / "00.png")
    Image.new("RGB", (24, 24)).save(tmp_path / "masks" / "01.png")
    Image.new("L", (12, 24)).save(tmp_path / "masks" / "02.png")
    (tmp_path / "masks" / "03.png").write_bytes(b"no image")
    found = open_source(tmp_path)
    reasons = [reason for _, reason in found.facts.unreadable]
    assert len(found.train) == 17 and len(reasons) == 3
    assert (
        any("has colours" in reason for reason in reasons)
        and any("12 x 24" in reason for reason in reasons)
        and any("no sound PNG" in reason for reason in reasons)
    )
    first = found.train.batch(torch.tensor([found.train.ids.index("00.png")])).view("plain").truth
    assert first is not None and bool((first == 2).all())


def test_large_data_are_decoded_again_with_their_masks(tmp_path: Path) -> None:
    there, anew = (open_source(folder(tmp_path / str(limit)), memory_limit=limit).train for limit in (1 << 30, 1))
    a, b = (samples.batch(torch.arange(20)).view("weak") for samples in (there, anew))
    assert a.truth is not None and b.truth is not None
    assert torch.equal(a.inputs["pixels"], b.inputs["pixels"]) and torch.equal(a.truth, b.truth)


def test_mistakes_are_said_in_a_sentence(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (tmp_path / "labels.csv").write_text("path,label\n00.png,cat\n")
    with pytest.raises(UserError, match="are its masks; leave --labels out"):
        open_source(data, labels=tmp_path / "labels.csv")
    with pytest.raises(UserError, match="give a folder with images/ and masks/"):
        open_source(data / "images", modality="segmentation")
    (tmp_path / "rows.csv").write_text("a,label\n1,2\n")
    with pytest.raises(UserError, match="give a folder with images/ and masks/"):
        open_source(tmp_path / "rows.csv", modality="segmentation")
    with pytest.raises(UserError, match="give masks of the same classes"):
        open_source(data, test=folder(tmp_path / "test", classes=5))
    for mask in (data / "masks").iterdir():
        mask.unlink()
    with pytest.raises(UserError, match="holds no PNG file"):
        open_source(data)
