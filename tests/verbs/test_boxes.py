"""Images with boxes from the folder to the figure, and boxes in what had none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import understudy as us
from tests.data.test_boxes import folder
from understudy.data.source import open_source
from understudy.engine.loop import Loop
from understudy.errors import Interrupted, UserError
from understudy.models.detection import Found
from understudy.verbs.measured import box_lines

QUICK = ["train.steps=12", "train.batch=4"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boxes")
    folder(root / "data", 24, 18)
    folder(root / "test", 8, 8)
    us.selftrain(root / "data", test=root / "test", system="soft-teacher", student="tiny-boxnet", set=QUICK, out=root / "run", quiet=True)
    return root


def test_a_run_is_measured_by_average_precision(drawn: Path) -> None:
    answer = json.loads((drawn / "run" / "result.json").read_text())
    assert answer["result"]["metric"] == "AP50" and answer["result"]["samples"] == 8 and 0 <= answer["result"]["test"] <= 1
    assert answer["task"] == "detection" and "AP50" in (drawn / "run" / "report.html").read_text()
    written = sorted(path.name for path in (drawn / "run" / "predictions").iterdir())
    assert written == [f"{i}.txt" for i in range(18, 24)]


def test_what_is_written_down_is_where_it_was_seen_and_can_be_read_again(drawn: Path, tmp_path: Path) -> None:
    """Of an image that is no square the central one is seen; what is found is written as shares of the whole."""
    found = open_source(folder(tmp_path / "a", 3, 3)).train
    truth = found.batch(torch.arange(3)).view("plain").truth
    assert truth is not None
    lines = box_lines(Found(truth[:1, :, :4], truth[:1, :, 4].long(), (truth[:1, :, 4] >= 0).float()), (32, 24))
    ours, theirs = ([float(word) for word in line.split()] for line in (lines[0], (tmp_path / "a" / "labels" / "00.txt").read_text()))
    assert ours[:5] == pytest.approx(theirs, abs=1e-4) and ours[5] == 1.0
    (tmp_path / "a" / "labels" / "00.txt").write_text("\n".join(lines))
    assert open_source(tmp_path / "a").facts.unreadable == []


def test_fit_compares_with_the_labels_alone(drawn: Path, tmp_path: Path) -> None:
    result = us.fit(drawn / "data", test=drawn / "test", student="tiny-boxnet", set=["train.steps=20", "train.batch=4"], out=tmp_path / "fit", quiet=True)
    assert [stage["name"] for stage in result.stages] == ["control", "self-train"] and "AP50:95" in result.stages[1]["why"]
    assert result.control["metric"] == "AP50" and result.gain is not None


def test_evaluate_and_compare_say_the_precision(drawn: Path, tmp_path: Path) -> None:
    answer = us.evaluate(drawn / "run", drawn / "test", quiet=True).answer
    assert answer["measures"]["precision"]["samples"] == 8 and "strict" in answer["measures"]["precision"] and "accuracy" not in answer["measures"]
    with pytest.raises(UserError, match="the measure overlap needs masks"):
        us.evaluate(drawn / "run", drawn / "test", measure="overlap", quiet=True)
    both = us.compare(
        ["supervised", "soft-teacher"], data=drawn / "data", test=drawn / "test", student="tiny-boxnet", seeds=2, set=QUICK, out=tmp_path, quiet=True
    )
    assert both.metric == "AP50" and list(both.figures) == ["supervised", "soft-teacher"]


def test_a_run_that_was_cut_goes_on(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once, calls = Loop.once, [0]

    def cut(self: Loop, step: int) -> object:
        calls[0] += 1
        if calls[0] == 9:
            raise KeyboardInterrupt
        return once(self, step)

    monkeypatch.setattr(Loop, "once", cut)
    given = {"system": "soft-teacher", "student": "tiny-boxnet", "set": [*QUICK, "checkpoint.every=4"], "quiet": True}
    with pytest.raises(Interrupted, match="go on with"):
        us.selftrain(drawn / "data", test=drawn / "test", out=tmp_path / "run", **given)
    again = us.resume(tmp_path / "run", quiet=True)
    assert again.answer["result"] == json.loads((drawn / "run" / "result.json").read_text())["result"]


def test_what_does_not_work_on_boxes_says_so(drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fixmatch works on"):
        us.selftrain(drawn / "data", system="fixmatch", set=QUICK, out=tmp_path / "a", quiet=True)
    with pytest.raises(UserError, match="fst works on segmentation, and the data are detection"):
        us.selftrain(drawn / "data", system="fst", set=QUICK, out=tmp_path / "b", quiet=True)
    with pytest.raises(UserError, match="its answers cannot be learned"):
        us.distill(drawn / "data", teacher=f"run:{drawn / 'run'}", set=QUICK, out=tmp_path / "c", quiet=True)
