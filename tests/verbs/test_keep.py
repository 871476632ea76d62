from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console

import understudy as us
from understudy import models
from understudy.data.modalities import TableModality, TextModality
from understudy.errors import UserError
from understudy.verbs import console
from understudy.verbs.exporting import example_inputs

from .conftest import FEW, read


def test_report_is_written_again(fitted: Path, tmp_path: Path) -> None:
    before = (fitted / "report.html").read_bytes()
    us.report(fitted, quiet=True)
    assert (fitted / "report.html").read_bytes() == before
    assert us.report(fitted, out=tmp_path / "page.html", quiet=True).report == str(tmp_path / "page.html")
    with pytest.raises(UserError, match="finished run"):
        us.report(tmp_path, quiet=True)


@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-text", "tiny-table"])
def test_onnx_answers_as_torch_does(tmp_path: Path, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from understudy.data.known import digits

    made = {
        "resnet": lambda: digits().modality,
        "text": lambda: TextModality.train(["one two three", "four five six"] * 20, vocabulary=300, length=24),
        "table": lambda: TableModality.fit({"age": [20.0, 40.0, None] * 5, "work": ["state", "own", None] * 5}),
    }
    student = models.build(name, made[name.split("-")[1]](), ("a", "b"), 0).eval()
    models.save(student, tmp_path / "run" / "model")
    written = us.export(tmp_path / "run", quiet=True).export[0]
    inputs = example_inputs(student, 5)
    with torch.no_grad():
        ours = student(inputs).numpy()
    theirs = onnxruntime.InferenceSession(written["path"]).run(None, {n: t.numpy() for n, t in inputs.items()})[0]
    assert abs(ours - theirs).max() < 1e-4 and (tmp_path / "run" / "export" / "onnx" / "model.json").exists()
    assert (tmp_path / "run" / "export" / "onnx" / "tokenizer.json").exists() == (name == "tiny-text")


def test_export_refuses_what_a_model_is_not(fitted: Path) -> None:
    for kind, told in (("timm", "none of timm"), ("onyx", "no export format 'onyx'")):
        with pytest.raises(UserError, match=told):
            us.export(fitted, format=kind, quiet=True)


def test_resume_refuses_what_it_cannot_do(fitted: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        us.resume(tmp_path, quiet=True)
    with pytest.raises(UserError, match="has its settings already"):
        us.resume(fitted, seed=3, quiet=True)


def test_a_run_given_python_objects_is_only_resumed_from_python(fitted: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"teacher": models.load(fitted), "student": "tiny-resnet", "out": tmp_path / "d", "quiet": True, "set": [*FEW, "train.steps=4"]}
    with monkeypatch.context() as patch:
        patch.setattr("understudy.verbs.train.conclude", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(UserError, match="go on with"):
            us.distill(digits / "images", **arguments)
    with pytest.raises(UserError, match="Python object"):
        us.resume(tmp_path / "d", quiet=True)
    assert us.distill(digits / "images", **{**arguments, "teacher": models.load(fitted)}).fidelity["samples"] > 0


def test_changed_data_are_noticed(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = tmp_path / "images"
    shutil.copytree(digits / "images", images)
    with monkeypatch.context() as patch:
        patch.setattr("understudy.verbs.train.conclude", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(UserError, match="go on with"):
            us.finetune(images, labels=digits / "labels.csv", student="tiny-resnet", out=tmp_path / "f", quiet=True, set=[*FEW, "train.steps=2"])
    (images / "149.png").unlink()
    with pytest.raises(UserError, match="the data have changed"):
        us.resume(tmp_path / "f", quiet=True)


def test_unreadable_files_are_listed_and_named(digits: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(digits / "images", images)
    (images / "nothing.png").write_bytes(b"")
    result = us.finetune(images, labels=digits / "labels.csv", student="tiny-resnet", out=tmp_path / "f", quiet=True, set=[*FEW, "train.steps=2"])
    assert result.quarantined == 1 and "nothing.png" in (tmp_path / "f" / "quarantine.jsonl").read_text()
    assert read(tmp_path / "f" / "run.json")["found"]["unreadable"][0][1] == "the file is empty"


def test_doctor_looks_at_machine_and_data(digits: Path) -> None:
    found = us.doctor(digits / "images", quiet=True)
    assert found.step_milliseconds > 0 and found.writable and "150 images" in found.data[0]
    shown = io.StringIO()
    Console(file=shown, width=200).print(found)
    assert "pip install 'understudy[" in shown.getvalue() or not [name for name, there in found.extras.items() if not there]


def test_doctor_says_when_storing_pays(fitted: Path, digits: Path) -> None:
    found = us.doctor(digits / "images", distill=True, teacher=f"run:{fitted}", student="tiny-resnet", views=3, quiet=True)
    told = found.distill
    times = told["seconds_a_sample"]
    assert all(time > 0 for time in times.values()) and told["views"] == 3 and told["bytes"] > 150 * 3
    pays = told["from_epochs"]
    if times["teacher"] > times["label"]:  # first number of epochs at which E (T + S) > V T + E (S + D)
        live, stored = ([e * (t + times["student"]) for e in (pays - 1, pays)] for t in (times["teacher"], times["label"]))
        once = 3 * times["teacher"]
        assert live[0] <= stored[0] + once + 1e-9 and live[1] > stored[1] + once
    shown = io.StringIO()
    Console(file=shown, width=400).print(found)
    assert "A step costs" in shown.getvalue() and ("epochs on" in shown.getvalue() or "does not pay" in shown.getvalue())
    with pytest.raises(UserError, match="give DATA and --teacher"):
        us.doctor(distill=True, quiet=True)
    with pytest.raises(UserError, match="only with --distill"):
        us.doctor(digits / "images", teacher=f"run:{fitted}", quiet=True)


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 5))
    monkeypatch.setattr("time.monotonic", lambda: float(next(now)))
    said = io.StringIO()
    listener = console.ConsoleListener(Console(file=said, width=80))
    listener.stage("control", "[a] purpose")
    for step in range(10):
        listener.progress(step, 10, loss=0.5)
    lines = said.getvalue().splitlines()
    assert lines[0] == "control  [a] purpose" and lines[1] == "  control: 4 of 10, loss 0.5, 0:30 left" and len(lines) == 3, lines


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    said = io.StringIO()
    listener = console.ConsoleListener(Console(file=said, width=120, force_terminal=True))
    listener.stage("control")
    for step in range(1, 11):
        listener.progress(step, 10, loss=0.5)
    assert "10/10" in said.getvalue() and listener._bar is None
