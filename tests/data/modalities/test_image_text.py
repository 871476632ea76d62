"""Images with captions: views that are keyed and do not depend on the batch, and how they are read from folders and rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from PIL import Image

from understudy import keyed
from understudy.data.modalities import restore
from understudy.data.modalities.image_text import Captioned, ImageTextModality
from understudy.data.modalities.text import TextModality
from understudy.data.source import open_source
from understudy.errors import UserError

MODALITY = ImageTextModality(16, 3, TextModality.train(["a red square", "a blue square on the left"], vocabulary=300, length=12))
COLOURS = {"red": (200, 0, 0), "blue": (0, 0, 200), "green": (0, 200, 0)}


def square(colour: str, side: int = 16) -> Image.Image:
    return Image.new("RGB", (side, side), COLOURS[colour])


def raw(count: int = 6) -> dict[str, torch.Tensor]:
    return MODALITY.collate([MODALITY.encode(Captioned(square(colour), f"a {colour} square")) for _ in range(count // 3) for colour in COLOURS])


def test_a_caption_is_filled_up_and_cut() -> None:
    encoded = MODALITY.encode(Captioned(square("red"), "a red square"))
    assert encoded["tokens"].shape == (12,) and 3 < int(encoded["length"]) < 12 and int(encoded["tokens"][-1]) == MODALITY.text.pad
    assert int(MODALITY.encode(Captioned(square("red"), "word " * 40))["length"]) == 12


@pytest.mark.parametrize("name", ["plain", "weak", "strong", "image", "text"])
def test_views_are_keyed_and_independent_of_the_batch(name: str) -> None:
    keys = torch.as_tensor(keyed.fold(3, torch.arange(6)))
    whole = MODALITY.view(raw(), name, keys).inputs
    assert set(whole) == ({"pixels"} if name == "image" else {"tokens", "padding"} if name == "text" else {"pixels", "tokens", "padding"})
    part = MODALITY.view({n: t[[4, 1]] for n, t in raw().items()}, name, keys[[4, 1]]).inputs
    assert all(torch.equal(part[n], whole[n][[4, 1]]) for n in whole)


def test_weak_views_do_not_mirror_and_unknown_ones_are_refused() -> None:
    left = torch.zeros(40, 1, 16, 16, dtype=torch.uint8)
    left[..., :4] = 255
    grey = ImageTextModality(16, 1, MODALITY.text)
    keys = torch.as_tensor(keyed.fold(1, torch.arange(40)))
    seen = grey.view({"image": left, "tokens": torch.zeros(40, 12, dtype=torch.int64), "length": torch.ones(40)}, "weak", keys).inputs["pixels"]
    assert bool((seen[..., :8].mean((1, 2, 3)) > seen[..., 8:].mean((1, 2, 3))).all())
    with pytest.raises(UserError, match="no view 'masked'"):
        MODALITY.view(raw(), "masked", keys[:6])


def test_a_saved_modality_is_the_same_one(tmp_path: Path) -> None:
    MODALITY.text.save(tmp_path)
    again = restore(MODALITY.signature(), tmp_path)
    assert isinstance(again, ImageTextModality) and again.signature() == MODALITY.signature()


def folder(root: Path, count: int = 150) -> Path:
    for i in range(count):
        colour = list(COLOURS)[i % 3]
        square(colour).save(root / f"{i:03d}.png")
        (root / f"{i:03d}.txt").write_text(f"a {colour} square, number {i}\n", encoding="utf-8")
    return root


def test_a_folder_with_a_text_beside_every_image(tmp_path: Path) -> None:
    root = folder(tmp_path)
    (root / "007.txt").unlink()
    found = open_source(root)
    assert found.modality == "image-text" and len(found.train) == 149
    assert "caption can not be read" in found.facts.unreadable[0][1]
    original = found.train.encoded.original(3)
    assert original.caption == "a red square, number 3" and original.image.size == (16, 16)
    batch = found.train.batch(torch.tensor([0, 5]))
    assert batch.view("plain").inputs["pixels"].shape == (2, 3, 16, 16)
    assert "Captions have" in " ".join(found.describe())
    assert open_source(root, modality="image").modality == "image"


def test_rows_of_paths_and_captions(tmp_path: Path) -> None:
    folder(tmp_path)
    for text in tmp_path.glob("*.txt"):
        text.unlink()
    with open(tmp_path / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "caption", "label"])
        writer.writerows([(f"{i:03d}.png" if i != 9 else "gone.png", f"a {list(COLOURS)[i % 3]} square", i % 3) for i in range(150)])
    found = open_source(tmp_path / "pairs.csv")
    assert found.modality == "image-text" and len(found.train) == 149 and found.train.classes == ("0", "1", "2")
    assert "gone.png" in found.facts.unreadable[0][0]
    again = open_source(tmp_path / "pairs.csv", text_column="caption", modality="image-text")
    assert torch.equal(again.train.labels, found.train.labels)


@pytest.mark.parametrize(("header", "options", "says"), [
    (["path", "words"], {"modality": "image-text"}, "no column 'text'"),
    (["where", "caption"], {"modality": "image-text"}, "no column of images or of their paths"),
])  # fmt: skip
def test_missing_columns_are_said_in_one_sentence(header: list[str], options: dict[str, str], says: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(",".join(header) + "\na.png,a square\nb.png,another\n")
    with pytest.raises(UserError, match=says):
        open_source(tmp_path / "pairs.csv", **options)  # type: ignore[arg-type]
