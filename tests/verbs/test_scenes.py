"""Images with masks from the folder to the figure, and masks of what had none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import understudy as us
from tests.data.test_scenes import folder
from understudy.errors import UserError

QUICK = ["train.steps=6", "train.batch=4"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    folder(root / "data", 20, 14)
    folder(root / "test", 8, 8)
    us.selftrain(root / "data", test=root / "test", system="fst", student="tiny-unet", set=[*QUICK, "fst.ahead=1"], out=root / "run", quiet=True)
    return root


def test_a_run_is_measured_by_overlap_and_draws_what_had_no_mask(drawn: Path) -> None:
    answer = json.loads((drawn / "run" / "result.json").read_text())
    assert answer["result"]["metric"] == "mean IoU" and answer["result"]["samples"] == 8 and 0 < answer["result"]["test"] <= 1
    masks = sorted(path.name for path in (drawn / "run" / "predictions").iterdir())
    assert masks == [f"{i}.png" for i in range(14, 20)] and answer["predictions"] == str(drawn / "run" / "predictions")
    mask = np.asarray(Image.open(drawn / "run" / "predictions" / "15.png"))
    assert mask.shape == (24, 24) and set(np.unique(mask)) <= {0, 1, 2}
    assert "mean IoU" in (drawn / "run" / "report.html").read_text()


def test_fit_compares_with_the_labels_alone(drawn: Path, tmp_path: Path) -> None:
    result = us.fit(drawn / "data", test=drawn / "test", student="tiny-unet", set=["train.steps=12", "train.batch=4"], out=tmp_path / "fit", quiet=True)
    assert [stage["name"] for stage in result.stages] == ["control", "self-train"]
    assert result.control["metric"] == "mean IoU" and result.gain is not None


def test_evaluate_says_the_overlap(drawn: Path) -> None:
    answer = us.evaluate(drawn / "run", drawn / "test", quiet=True).answer
    assert answer["measures"]["overlap"]["samples"] == 8 and "accuracy" not in answer["measures"]
    with pytest.raises(UserError, match="the measure accuracy needs"):
        us.evaluate(drawn / "run", drawn / "test", measure="accuracy", quiet=True)


def test_what_does_not_work_on_masks_says_so(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fixmatch works on"):
        us.selftrain(drawn / "data", system="fixmatch", set=QUICK, out=tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match="works on"):
        us.pretrain(drawn / "data", system="barlow-twins", set=QUICK, out=tmp_path / "b", quiet=True)
    with pytest.raises(UserError, match="its answers cannot be learned"):
        us.distill(drawn / "data", teacher=f"run:{drawn / 'run'}", set=QUICK, out=tmp_path / "c", quiet=True)


def test_systems_are_compared_by_overlap(drawn: Path, tmp_path: Path) -> None:
    answer = us.compare(["supervised", "fst"], data=drawn / "data", test=drawn / "test", student="tiny-unet", seeds=2, set=QUICK, out=tmp_path, quiet=True)
    assert answer.metric == "mean IoU" and list(answer.figures) == ["supervised", "fst"] and len(answer.figures["fst"]["mean IoU"]) == 2
