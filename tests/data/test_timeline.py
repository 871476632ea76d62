"""Series in rows and sounds in files, as users have them: what is read, what is set aside, and what is said."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.io import wavfile

from understudy.data.quarantine import Quarantine
from understudy.data.source import open_source
from understudy.errors import MissingExtra, UserError


def rows(path: Path, *lines: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_columns_of_lists_are_channels(tmp_path: Path) -> None:
    table = pa.table({"x": [[1.0, 2, 3], [4, 5]], "y": [[0, 0, 1], [1, 1]], "label": ["a", None], "name": ["one", "two"]})
    pq.write_table(table, tmp_path / "s.parquet")
    found = open_source(tmp_path / "s.parquet", id_column="name")
    assert found.modality == "series" and found.train.modality.signature()["channels"] == ["x", "y"] and found.train.ids == ("one", "two")
    raw = found.train.batch(torch.arange(2)).raw
    assert raw["series"].shape == (2, 2, 3) and raw["steps"].tolist() == [3, 2]
    said = " ".join(found.describe())
    assert "2 channels (x, y); 2 to 3 steps" in said and "1 labelled, 1 unlabelled" in said
    assert found.train.encoded.original(1).tolist() == [[4, 5], [1, 1]]


@pytest.mark.parametrize(
    ("values", "channels", "steps"),
    [
        ([[[1, 2, 3], [4, 5, 6]], [[1, 2], [4, 5]]], 2, [3, 2]),  # channels of steps
        ([[[1, 4], [2, 5], [3, 6]], [[1, 4], [2, 5]]], 2, [3, 2]),  # steps of channels: the inner lists are equally long everywhere
        ([[[1, 2, 3], [4, 5, 6]]] * 2, 2, [3, 3]),
    ],
)
def test_lists_of_lists(values: list[object], channels: int, steps: list[int], tmp_path: Path) -> None:
    found = open_source(rows(tmp_path / "s.jsonl", *({"values": v, "label": i} for i, v in enumerate(values))), modality="series")
    raw = found.train.batch(torch.arange(2)).raw
    assert raw["series"].shape[1] == channels and raw["steps"].tolist() == steps
    np.testing.assert_array_equal(found.train.encoded.original(0)[1], [4, 5, 6])


def test_a_column_for_every_step(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_text("x_0,x_10,x_2,y_0,y_2,y_10,label\n" + "1,3,2,4,5,6,a\n1,,2,4,5,7,b\n")
    found = open_source(tmp_path / "wide.csv", modality="series")
    assert found.train.modality.signature()["channels"] == ["x", "y"]
    np.testing.assert_array_equal(found.train.encoded.original(0), [[1, 2, 3], [4, 5, 6]])
    assert np.isnan(found.train.encoded.original(1)[0, 2])
    (tmp_path / "plain.csv").write_text("mon,tue,wed,label\n1,2,3,a\n4,5,6,b\n")
    assert open_source(tmp_path / "plain.csv", modality="series").train.modality.signature()["channels"] == ["value"]
    assert open_source(tmp_path / "plain.csv").modality == "table"  # nobody said that columns are steps


def test_rows_that_are_no_series_are_set_aside(tmp_path: Path) -> None:
    lines = [{"x": [1, 2, 3], "y": [1, 2, i]} for i in range(20)]
    wrong = [{"x": None, "y": [1]}, {"x": [1, 2], "y": [1, 2, 3]}, {"x": [1], "y": [2]}, {"x": [None, None], "y": [None, None]}]
    found = open_source(rows(tmp_path / "s.jsonl", *lines, *wrong), quarantine=Quarantine(tmp_path / "run"))
    assert len(found.train) == 20
    reasons = " ".join(reason for _, reason in found.facts.unreadable)
    assert "channel 'x' is empty" in reasons and "different lengths" in reasons and "fewer than two" in reasons and "no number" in reasons
    assert len((tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()) == 4


def test_test_data_of_other_channels_and_files_without_any_are_refused(tmp_path: Path) -> None:
    train = rows(tmp_path / "train.jsonl", *({"x": [1, 2, i]} for i in range(4)))
    with pytest.raises(UserError, match="has the channels z, and the training data has x"):
        open_source(train, test=rows(tmp_path / "test.jsonl", {"z": [1, 2]}))
    with pytest.raises(UserError, match="no column of lists of numbers"):
        open_source(rows(tmp_path / "none.jsonl", {"said": "yes"}), modality="series")


def wav(path: Path, hertz: float, rate: int = 8000, dtype: type = np.int16, seconds: float = 0.3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    scaled = {np.int16: wave * 32767, np.int32: wave * (2**31 - 1), np.uint8: wave * 127 + 128, np.float32: wave}[dtype]
    wavfile.write(path, rate, scaled.astype(dtype))
    return path


def test_a_folder_of_sounds(tmp_path: Path) -> None:
    for i, dtype in enumerate((np.int16, np.int32, np.uint8, np.float32)):
        wav(tmp_path / "d" / "low" / f"{i}.wav", 300, dtype=dtype)
        wav(tmp_path / "d" / "high" / f"{i}.WAV", 2000 + i, rate=8000 if i else 22_050)
    (tmp_path / "d" / "high" / "cut.wav").write_bytes(wav(tmp_path / "whole.wav", 500).read_bytes()[:-2000])
    (tmp_path / "d" / "low" / "text.wav").write_text("I am a text")
    (tmp_path / "d" / "low" / "empty.wav").touch()
    (tmp_path / "d" / "low" / "notes.txt").touch()
    found = open_source(tmp_path / "d")
    assert found.modality == "audio" and found.train.classes == ("high", "low") and len(found.train) == 8
    assert found.train.modality.signature()["rate"] == 8000
    frames = found.train.batch(torch.arange(8)).raw["frames"].float()
    low = [i for i, name in enumerate(found.train.ids) if name.startswith("low")]
    for i in low[1:]:  # whatever the format, the same tone
        band = int(frames[low[0]].mean(1).argmax())
        assert float((frames[i] - frames[low[0]])[band, 2:28].abs().max()) < 0.1
    reasons = {Path(path).name: reason for path, reason in found.facts.unreadable}
    assert "truncated" in reasons["cut.wav"] and reasons["empty.wav"] == "the file is empty" and "text.wav" in reasons
    assert "They last 0.3 to 0.3 seconds" in " ".join(found.describe()) and found.facts.ignored == {".txt": 1}
    assert found.train.encoded.original(low[0]).rate == 8000


def test_other_formats_need_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile = pytest.importorskip("soundfile")
    (tmp_path / "d").mkdir()
    for i in range(3):
        soundfile.write(tmp_path / "d" / f"{i}.flac", np.sin(np.arange(4000) * (0.1 + i)), 8000)
        soundfile.write(tmp_path / "d" / f"{i}.ogg", np.sin(np.arange(4000) * (0.15 + i)), 8000)
    (tmp_path / "d" / "bad.flac").write_bytes(b"fLaC" + bytes(50))
    found = open_source(tmp_path / "d")
    assert len(found.train) == 6 and "not a sound" in found.facts.unreadable[0][1]
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtra, match="understudy\\[audio\\]"):
        open_source(tmp_path / "d")


def test_encoded_sounds_in_a_column(tmp_path: Path) -> None:
    cells = []
    for i in range(4):
        buffer = io.BytesIO()
        wavfile.write(buffer, 8000, (1e4 * np.sin(np.arange(2400) * (0.1 + 0.1 * i))).astype(np.int16))
        cells.append({"bytes": buffer.getvalue(), "path": f"{i}.wav"})
    pq.write_table(pa.table({"audio": [*cells, {"bytes": None, "path": "x"}], "label": ["a", "b", "a", "b", "a"]}), tmp_path / "s.parquet")
    found = open_source(tmp_path / "s.parquet")
    assert found.modality == "audio" and len(found.train) == 4 and "the row holds no sound" in found.facts.unreadable[0][1]
    with pytest.raises(UserError, match="no column of encoded sounds"):
        open_source(rows(tmp_path / "none.jsonl", {"said": "yes"}), modality="audio")


def test_a_folder_of_nothing_but_noise_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(UserError, match="not one of 1 sounds can be read"):
        open_source(tmp_path)
