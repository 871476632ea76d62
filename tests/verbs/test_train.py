from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import understudy as us
from understudy import models
from understudy.errors import UserError
from understudy.labels import LabelStore

from .conftest import FEW, read

TINY = [*FEW, "train.steps=6"]


def test_pretrain_gives_a_backbone_that_finetune_goes_on_with(digits: Path, tmp_path: Path) -> None:
    result = us.pretrain(digits / "test", system="mae", student="tiny-vit", out=tmp_path / "p", quiet=True, set=TINY)
    assert result.student.head is None and result.control is None and result.result is None
    assert "linear probe" in result.figures["before pre-training"] and "linear probe" in result.figures["after pre-training"]
    tuned = us.finetune(
        digits / "images",
        labels=digits / "labels.csv",
        test=digits / "test",
        student=f"run:{tmp_path / 'p'}",
        out=tmp_path / "f",
        quiet=True,
        set=[*TINY, "optim.lr=1e-9"],
    )
    before, after = (models.load(tmp_path / name).backbone.state_dict() for name in "pf")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before) and tuned.student.classes == ("0", "1", "2", "3")


def test_a_student_is_built_as_the_settings_say(digits: Path, tmp_path: Path) -> None:
    given = {"labels": digits / "labels.csv", "quiet": True}
    result = us.finetune(digits / "images", out=tmp_path / "f", student="tiny-vit", set=[*TINY, "student.depth=1", "student.width=32"], **given)
    assert len(result.student.backbone.blocks) == 1 and result.student.backbone.width == 32
    with pytest.raises(UserError, match="tiny-vit has no option 'lora'"):
        us.finetune(digits / "images", out=tmp_path / "x", student="tiny-vit", set=["student.lora=4"], **given)


def test_distill_from_a_run_without_labels(fitted: Path, digits: Path, tmp_path: Path) -> None:
    result = us.distill(digits / "images", teacher=f"run:{fitted}", student="tiny-resnet", out=tmp_path / "d", quiet=True, set=[*FEW, "train.steps=40"])
    assert result.student.classes == ("0", "1", "2", "3") and result.result is None
    assert result.fidelity["agreement"] > 0.4 and result.smaller == pytest.approx(1.0)


def test_stored_labels_teach_as_their_teacher_does(fitted: Path, digits: Path, tmp_path: Path) -> None:
    store = us.label(digits / "images", teacher=f"run:{fitted}", view="weak", views=2, out=tmp_path / "labels", quiet=True)
    assert store.labels == store.added == 300 and store.samples == 150
    result = us.distill(digits / "images", teacher=f"labels:{tmp_path / 'labels'}", student="tiny-resnet", out=tmp_path / "d", quiet=True, set=TINY)
    assert "agreement" in result.fidelity
    with pytest.raises(UserError, match="teacher"):
        us.distill(digits / "images", out=tmp_path / "x", quiet=True)


def test_labelling_goes_on_where_it_stopped(fitted: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def progress(self: object, done: int, total: int, **_: object) -> None:
        calls.append(done)
        if len(calls) > 150 and done == 128:  # after the images were decoded, in the second batch of labels
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("understudy.engine.run.Listener.progress", progress)
        with pytest.raises(UserError, match="understudy resume"):
            us.label(digits / "images", teacher=f"run:{fitted}", codec="topk", out=tmp_path / "l", quiet=True)
    kept = len(LabelStore.open(tmp_path / "l"))
    assert kept == 128
    result = us.resume(tmp_path / "l", quiet=True)
    assert (result.labels, result.added) == (150, 22)
    seen = us.label_verify(tmp_path / "l", digits / "images", teacher=f"run:{fitted}", samples=20, quiet=True)
    assert seen.same and seen.agreement == 1.0
    with pytest.raises(UserError, match="label again"):
        us.label_verify(tmp_path / "l", digits / "images", teacher=f"run:{fitted / 'stages' / 'control'}", quiet=True)


def test_selftrain_says_what_each_round_gave(digits: Path, tmp_path: Path) -> None:
    result = us.selftrain(
        digits / "images",
        labels=digits / "labels.csv",
        student="tiny-resnet",
        out=tmp_path / "s",
        quiet=True,
        set=[*TINY, "noisy-student.rounds=1", "noisy-student.threshold=0"],
    )
    assert [stage["name"] for stage in result.stages] == ["teacher", "round-1"] and "held out" in result.test_origin
    with pytest.raises(UserError, match="no verifier"):
        us.selftrain(digits / "images", verifier="check.py", quiet=True)


def test_adapt_predicts_everything_once_and_in_order(fitted: Path, digits: Path, tmp_path: Path) -> None:
    result = us.adapt(fitted, digits / "test", system="tent", out=tmp_path / "a", quiet=True, set=["train.batch=20"])
    lines = [json.loads(line) for line in (tmp_path / "a" / "predictions.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(60))
    right = sum(line["class"] == Path(line["id"]).parent.name for line in lines)
    assert result.accuracy == right / 60 and result.control["test"] == read(fitted / "result.json")["result"]["test"]
    with pytest.raises(UserError, match="streams"):
        us.adapt(fitted, digits / "test", system="mae", quiet=True)


def test_a_refusal_by_the_system_leaves_nothing(digits: Path, tmp_path: Path, fitted: Path) -> None:
    with pytest.raises(UserError, match="needs a teacher"):
        us.pretrain(digits / "images", system="kd", out=tmp_path / "p", quiet=True)
    with pytest.raises(UserError, match="no classifier for the classes"):
        us.distill(digits / "images", teacher=models.load(fitted).with_head((), 0), out=tmp_path / "d", quiet=True)
    assert not any(tmp_path.iterdir())


def test_several_students_are_those_they_would_be_alone(fitted: Path, digits: Path, tmp_path: Path) -> None:
    given = {"teacher": f"run:{fitted}", "labels": digits / "labels.csv", "quiet": True, "set": TINY}
    together = us.distill(digits / "images", student=["tiny-resnet", "tiny-vit"], out=tmp_path / "both", **given)
    assert [one["student"] for one in together.students] == ["tiny-resnet", "tiny-vit"] and together.remembered_bytes > 0
    for number, name in enumerate(("tiny-resnet", "tiny-vit"), 1):
        alone = us.distill(digits / "images", student=name, out=tmp_path / name, **given)
        same = models.load(tmp_path / "both" / "stages" / f"student-{number}").state_dict()
        assert all(torch.equal(value, same[where]) for where, value in alone.student.state_dict().items()), name
    assert us.resume(tmp_path / "both", quiet=True).students == together.students
    (tmp_path / "both" / "result.json").unlink()
    again = us.resume(tmp_path / "both", quiet=True)
    assert again.remembered_bytes == 0 and again.students == together.students, "both were finished"
    with pytest.raises(UserError, match="give each once"):
        us.distill(digits / "images", student=["tiny-vit"] * 2, out=tmp_path / "x", **given)
    with pytest.raises(UserError, match="minilm takes more than answers"):
        us.distill(digits / "images", student=["tiny-vit", "small-vit"], system="minilm", out=tmp_path / "x", **given)
