"""From images with text files beside them to a model of both, and to a classifier by the names of folders, as a user goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import understudy as us
from understudy.errors import UserError

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``captioned/`` with 90 squares and a caption beside each, ``test/<colour>/`` with others and none."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "captioned").mkdir()
    for i in range(120):
        colour = list(COLOURS)[i % 3]
        image = Image.new("RGB", (12, 12), tuple(min(255, c + i % 7) for c in COLOURS[colour]))
        place = root / "captioned" if i < 90 else root / "test" / colour
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{i:03d}.png")
        if i < 90:
            (place / f"{i:03d}.txt").write_text(f"{'this is' if i % 2 else 'we see'} a {colour} square")
    return root


def test_captions_make_a_classifier_by_name(pictures: Path, tmp_path: Path) -> None:
    settings = ["train.steps=60", "train.batch=30", "optim.lr=3e-3", "clip.view=plain", "watch.action=off", "student.width=32", "student.heads=2"]
    trained = us.pretrain(pictures / "captioned", system="clip", student="tiny-clip", out=tmp_path / "clip", quiet=True, set=settings)
    assert trained.student.modality.name == "image-text"
    told = us.evaluate(tmp_path / "clip", pictures / "test", prompt=["this is a {} square", "we see a {} square"], measure="accuracy", quiet=True)
    assert told.measures["accuracy"]["test"] > 0.8


def test_prompts_need_a_model_of_captions_and_a_place_for_the_name(pictures: Path, tmp_path: Path) -> None:
    us.finetune(pictures / "test", student="tiny-resnet", out=tmp_path / "f", quiet=True, set=["train.steps=3", "train.batch=8"])
    with pytest.raises(UserError, match="train one with clip"):
        us.evaluate(tmp_path / "f", pictures / "test", prompt="a {} square", quiet=True)
