from __future__ import annotations

import csv
import dataclasses
import json
import os
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from understudy.data.found import Found, require_trainable
from understudy.data.quarantine import Quarantine
from understudy.data.source import open_source
from understudy.errors import UserError


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16), mode: str = "RGB", **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path, **options) if mode == "CMYK" else Image.fromarray(pixels).save(path, **options)
    return path


def classes_of(found: Found) -> dict[str, str | None]:
    return {name: found.train.classes[label] if label >= 0 else None for name, label in zip(found.train.ids, found.train.labels.tolist(), strict=True)}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    root = tmp_path / "animals"
    for i in range(4):
        draw(root / "cat" / f"{i}.png", i)
        draw(root / "dog" / "deep" / f"{i}.jpg", 10 + i)
        draw(root / "Unlabelled" / f"{i}.png", 20 + i)
    draw(root / "stray.bmp", 30)
    write(root / "readme.txt", "about")
    write(root / ".hidden.png", "no image")
    return root


def test_labels_from_folder_names(animals: Path) -> None:
    found = open_source(animals)
    assert found.train.classes == ("cat", "dog") and found.modality == "image"
    labels = classes_of(found)
    assert labels["cat/0.png"] == "cat" and labels["dog/deep/3.jpg"] == "dog" and labels["Unlabelled/0.png"] is None and labels["stray.bmp"] is None
    assert found.facts.ignored == {".txt": 1, "hidden": 1} and not found.facts.unreadable
    assert (found.facts.samples, found.facts.labelled) == (13, 8)
    said = " ".join(found.describe())
    assert "13 images: 8 labelled, 5 unlabelled" in said and "cat 4, dog 4" in said and "20 x 16" in said
    assert json.loads(json.dumps(dataclasses.asdict(found.facts)))["classes"] == {"cat": 4, "dog": 4}
    assert found.train.batch(torch.tensor([0])).raw["image"].shape == (1, 3, 16, 16)
    assert found.train.encoded.original(0).size == (20, 16)


def test_one_folder_is_no_class(tmp_path: Path) -> None:
    for i in range(3):
        draw(tmp_path / "2024" / f"{i}.png", i, mode="L")
    found = open_source(tmp_path)
    assert found.train.classes == () and found.train.modality.signature()["channels"] == 1
    with pytest.raises(UserError, match="nothing is labelled"):
        require_trainable(found.train)


def test_a_folder_of_splits(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2), ("unlabeled", 4)):
        for i in range(count):
            for name in ("a", "b"):
                draw(tmp_path / split / name / f"{i}.png", hash((split, name, i)) % 2**31)
    found = open_source(tmp_path)
    assert found.train.classes == ("a", "b") and found.test is not None and len(found.test) == 4
    assert (found.facts.labelled, found.facts.samples) == (6, 14)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("", "cat/{}.png,{}"),
        ("path,label", "cat/{}.png,{}"),
        ("image_id,class", "cat/{},{}"),
        ("foto;klasse", "animals/cat/{}.png;{}"),
        ("split,label,file", "x,{1},{root}/cat/{0}.png"),
        ("name\tnotes\ty", "./cat\\{}.png\tnone\t{}"),
    ],
)
def test_label_files(animals: Path, tmp_path: Path, header: str, row: str) -> None:
    rows = [row.format(i, name, root=animals) for i, name in enumerate(["tabby", "siamese", "tabby", ""])]
    found = open_source(animals, labels=write(tmp_path / "labels.csv", *([header] if header else []), *rows))
    assert found.train.classes == ("siamese", "tabby")
    assert {name: label for name, label in classes_of(found).items() if label} == {"cat/0.png": "tabby", "cat/1.png": "siamese", "cat/2.png": "tabby"}
    assert not found.facts.notes


def test_label_files_that_do_not_fit(animals: Path, tmp_path: Path) -> None:
    found = open_source(animals, labels=write(tmp_path / "some.csv", "path,label", "cat/0.png,a", "cat/1.png,b", "cat/99.png,a", "98.png,a"))
    assert "2 names in" in found.facts.notes[0] and "cat/99.png" in found.facts.notes[0] and found.facts.labelled == 2
    for lines, message in (
        (["path,label", "x/1.png,a", "x/2.png,b", "x/3.png,c"], r"none of the 3 names .*x/1\.png.*'stray\.bmp'|none of the 3 names .*x/1\.png.*'.*/0\.png'"),
        (["cat/0.png,a", "cat/0.png,b"], "two labels"),
        (["cat/0.png,a", "./cat/0.png,b"], "two labels"),
        (["cat/0.png"], "two columns"),
        (["cat/0.png,a,b", "cat/1.png,c,d"], "which column"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(animals, labels=write(tmp_path / "bad.csv", *lines))
    (tmp_path / "latin.csv").write_bytes("cat/0.png,Käse\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        open_source(animals, labels=tmp_path / "latin.csv")


def test_a_bare_name_that_two_files_have_is_not_guessed(animals: Path, tmp_path: Path) -> None:
    found = open_source(animals, labels=write(tmp_path / "l.csv", "0.png,a", "stray,b", "3.jpg,a", "nowhere/1.jpg,b"))
    assert {name for name, label in classes_of(found).items() if label} == {"stray.bmp", "dog/deep/3.jpg"}
    assert "2 names" in found.facts.notes[0]


def test_unicode_names_match_in_either_form(tmp_path: Path) -> None:
    name = "Käsekästchen Ωμέγα 写真.png"
    root = tmp_path / "data"
    draw(root / unicodedata.normalize("NFD", name), 1)
    draw(root / "b.png", 2)
    found = open_source(root, labels=write(tmp_path / "l.csv", f"{unicodedata.normalize('NFC', name)},ä", "b.png,b"))
    assert found.train.classes == ("b", "ä") and found.facts.labelled == 2
    assert unicodedata.normalize("NFC", name) in found.train.ids


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    draw(tmp_path / "ok.png", 1)
    with open(os.fsencode(tmp_path) + b"/\xff\xfe.png", "wb") as file:
        file.write(b"broken")
    quarantine = Quarantine(tmp_path / "run")
    found = open_source(tmp_path, quarantine=quarantine)
    assert len(found.train) == 1 and len(found.facts.unreadable) == 1
    assert "\ufffd" in " ".join(found.describe())
    " ".join(found.describe()).encode()
    assert json.loads((tmp_path / "run" / "quarantine.jsonl").read_text())["reason"].startswith("not an image")


def test_a_folder_with_everything_that_goes_wrong(tmp_path: Path) -> None:
    root = tmp_path / "mess"
    good = [
        draw(root / "a" / "plain.png", 1), draw(root / "a" / "cmyk.jpg", 2, mode="CMYK"), draw(root / "a" / "alpha.png", 3, mode="RGBA"),
        root / "b" / "wide.png", draw(root / "b" / "grey.webp", 5, mode="L"), draw(root / "b" / "写真.gif", 6),
    ]  # fmt: skip
    Image.new("RGB", (20000, 300), "navy").save(root / "b" / "wide.png")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160).save(root / "b" / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(root / "a" / "turned.jpg", 7, size=(30, 20), exif=exif)
    (root / "b" / "truncated.jpg").write_bytes(draw(tmp_path / "whole.jpg", 8).read_bytes()[:-200])
    write(root / "b" / "text.png", "I am a text")
    (root / "b" / "empty.png").touch()
    (root / "b" / "loop").symlink_to(root, target_is_directory=True)
    (root / "b" / "nowhere.png").symlink_to(root / "missing.png")
    os.mkfifo(root / "b" / "pipe.png")
    quarantine = Quarantine(tmp_path / "run")
    found = open_source(root, quarantine=quarantine)
    assert len(found.train) == len(good) + 2 and found.train.classes == ("a", "b")
    reasons = {Path(path).name: reason for path, reason in found.facts.unreadable}
    assert reasons.keys() == {"truncated.jpg", "text.png", "empty.png", "nowhere.png", "pipe.png"}
    assert "truncated" in reasons["truncated.jpg"] and "not an image" in reasons["text.png"] and "empty" in reasons["empty.png"]
    assert any("b/loop leads back" in note for note in found.facts.notes)
    assert len((tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()) == 5
    open_source(root, quarantine=Quarantine(tmp_path / "run"))
    assert len((tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()) == 5
    turned = found.train.encoded.original(found.train.ids.index("a/turned.jpg"))
    assert turned.size == (20, 30)


def test_too_many_unreadable_files_stop_the_run(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "a.png")
    for i in range(11):
        write(tmp_path / "data" / f"{i}.png", "text")
    with pytest.raises(UserError, match=r"11 of 12 samples can not be read, more than the 1\.0%.*quarantine\.jsonl"):
        open_source(tmp_path / "data", quarantine=Quarantine(tmp_path / "run"))
    (tmp_path / "data" / "a.png").unlink()
    with pytest.raises(UserError, match="not one of the 11 images"):
        open_source(tmp_path / "data")


def test_test_data_is_kept_and_its_copies_leave_training(animals: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    draw(held / "cat" / "copy.bmp", 1)  # the pixels of cat/1.png
    draw(held / "dog" / "new.png", 99)
    draw(animals / "dog" / "twin.png", 0)  # the pixels of cat/0.png under another label
    found = open_source(animals, test=held)
    assert found.test is not None and len(found.test) == 2 and found.test.ids == ("test:cat/copy.bmp", "test:dog/new.png")
    assert "cat/1.png" not in found.train.ids and len(found.train) == 13
    assert (found.facts.copies_across, found.facts.copies_within, found.facts.conflicting) == (1, 1, 1)
    assert "left out of training" in " ".join(found.describe())
    with pytest.raises(UserError, match="every training sample"):
        open_source(animals, test=animals)
    draw(held / "horse" / "1.png", 5)
    with pytest.raises(UserError, match="'horse'.*'cat', 'dog'"):
        open_source(animals, test=held)


def test_test_labels_from_a_file(animals: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    for i in range(3):
        draw(held / f"new{i}.png", 70 + i)
    with pytest.raises(UserError, match="no labels"):
        open_source(animals, test=held)
    found = open_source(animals, labels=write(tmp_path / "l.csv", "cat/0.png,a", "cat/1.png,b", "new0.png,a", "new1.png,b"), test=held)
    assert found.test is not None and len(found.test) == 2 and found.facts.test_classes == {"a": 1, "b": 1}
    write(held / "labels.csv", "new2.png,dog", "new1.png,cat")
    found = open_source(animals, test=held)
    assert found.facts.test_classes == {"cat": 1, "dog": 1}


def test_a_label_file_does_not_reach_test_samples_of_the_same_names(animals: Path, tmp_path: Path) -> None:
    for i, name in enumerate(("cat", "dog")):
        draw(tmp_path / "held" / name / f"{i}.png", 80 + i)
    found = open_source(animals, labels=write(tmp_path / "l.csv", "cat/0.png,dog", "cat/1.png,cat"), test=tmp_path / "held")
    assert found.facts.test_classes == {"cat": 1, "dog": 1} and found.test is not None
    assert {found.test.ids[i]: found.test.classes[y] for i, y in enumerate(found.test.labels.tolist())} == {"test:cat/0.png": "cat", "test:dog/1.png": "dog"}


def test_the_encoding_of_a_model_can_be_asked_for(animals: Path) -> None:
    first = open_source(animals, size=12)
    again = open_source(animals, modality=first.train.modality, classes=("dog", "horse", "cat"))
    assert again.train.modality is first.train.modality and again.train.classes == ("dog", "horse", "cat")
    assert again.train.fingerprint == first.train.fingerprint
    with pytest.raises(UserError, match="'cat'"):
        open_source(animals, modality=first.train.modality, classes=("dog",))


SENTENCES = ["the cat sat on the mat", "a dog ran", "never again", "what a fine day", "null", "rain; and, more rain", "sun", "moon"]


def as_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    return write(path, *(json.dumps(row) for row in rows))


def as_json(path: Path, rows: list[dict[str, object]]) -> Path:
    return write(path, json.dumps(rows))


def as_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


WRITERS = {"csv": as_csv, "tsv": as_csv, "jsonl": as_jsonl, "json": as_json, "parquet": as_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_texts(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, object]] = [{"text": text, "label": ["b", "a", None][i % 3]} for i, text in enumerate(SENTENCES)]
    rows[3]["text"] = "two\nlines"
    found = open_source(WRITERS[suffix](tmp_path / f"data.{suffix}", rows))
    assert found.modality == "text" and found.train.classes == ("a", "b")
    assert found.train.labels.tolist() == [1, 0, -1, 1, 0, -1, 1, 0]
    assert found.train.ids[7] == "row-000007" and found.train.encoded.original(3) == "two\nlines"
    raw = found.train.batch(torch.tensor([6, 1])).raw
    assert raw["tokens"].shape == (2, int(raw["length"].max()))
    assert torch.equal(raw["tokens"][0, : raw["length"][0]], found.train.modality.encode("sun")["tokens"])


@pytest.mark.parametrize("suffix", WRITERS)
def test_tables(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, object]] = [
        {
            "id": f"p{i}",
            "row": i,
            "age": 20.5 + i if i % 7 else None,
            "smoker": bool(i % 2),
            "city": ["Rom", "Wien", "Ulm"][i % 3],
            "same": 5,
            "none": None,
            "label": i % 2,
        }
        for i in range(40)
    ]
    found = open_source(WRITERS[suffix](tmp_path / f"data.{suffix}", rows))
    assert found.modality == "table" and found.train.classes == ("0", "1")
    assert found.facts.content["columns"] == {"age": "number", "smoker": "category", "city": "category"}
    assert found.facts.content["dropped"].keys() == {"id", "row", "same", "none"}  # type: ignore[attr-defined]
    assert "every row says '5'" in " ".join(found.describe())
    raw = found.train.batch(torch.tensor([0, 1, 2])).raw
    assert raw["numbers"].isnan().squeeze(1).tolist() == [True, False, False]
    assert raw["categories"].shape == (3, 2) and int(raw["categories"].min()) >= 1
    again = found.train.modality.encode(found.train.encoded.original(1))
    assert torch.equal(again["numbers"], raw["numbers"][1]) and torch.equal(again["categories"], raw["categories"][1])


def test_odd_columns_of_a_table(tmp_path: Path) -> None:
    lines = [f"2024-01-{1 + i % 28:02d},{'?' if i == 3 else i * 1.5},{i % 3},{i},name {i},{['x', '-1', ''][i % 3]}" for i in range(90)]
    found = open_source(write(tmp_path / "t.csv", "day,dirty,grade,amount,who,label", *lines))
    assert found.facts.content["columns"] == {"day": "number", "dirty": "number", "grade": "category"}
    assert found.facts.content["dropped"] == {"amount": "it numbers the rows", "who": "nearly every row has its own text"}
    assert found.train.classes == ("-1", "x") and found.facts.labelled == 60
    numbers = found.train.encoded.raw(torch.arange(90))["numbers"]
    assert numbers[:, 1].isnan().nonzero().flatten().tolist() == [3]
    day = found.train.encoded.original(1)["day"]
    assert day == 19724.0  # 2024-01-02 in days since 1970


def test_rows_labelled_by_a_file(tmp_path: Path) -> None:
    data = as_csv(tmp_path / "d.csv", [{"key": f"k{i}", "text": text} for i, text in enumerate(SENTENCES)])
    by_key = open_source(data, labels=write(tmp_path / "a.csv", "key,topic", "k1,x", "k5,y"), id_column="key")
    by_number = open_source(data, labels=write(tmp_path / "b.csv", "row,label", "row-000001,x", "5,y"))
    assert by_key.train.labels.tolist() == by_number.train.labels.tolist() == [-1, 0, -1, -1, -1, 1, -1, -1]
    assert by_key.train.ids[1] == "k1"


def test_test_rows_follow_the_training_columns(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"n": i / 3, "c": "uv"[i % 2], "label": "pq"[i % 2]} for i in range(30)]
    train = as_csv(tmp_path / "train.csv", rows)
    test = as_parquet(
        tmp_path / "test.parquet", [{"c": "w", "n": 4, "label": "p", "more": 1}, {"c": "u", "n": None, "label": "q", "more": 2}, {**rows[4], "more": 3}]
    )
    found = open_source(train, test=test)
    assert found.test is not None
    raw = found.test.encoded.raw(torch.arange(3))
    assert raw["categories"].flatten().tolist()[0] == 0 and raw["numbers"].isnan().flatten().tolist() == [False, True, False]
    assert found.facts.copies_across == 1 and len(found.train) == 30
    with pytest.raises(UserError, match="no column 'n', which the training data has"):
        open_source(train, test=as_csv(tmp_path / "other.csv", [{"c": "u", "label": "p"}]))
    with pytest.raises(UserError, match="'n' .* holds no number"):
        open_source(train, test=as_csv(tmp_path / "words.csv", [{"n": "many", "c": "u", "label": "p"}]))


def test_one_row_follows_the_encoding_of_a_model(tmp_path: Path) -> None:
    first = open_source(as_csv(tmp_path / "train.csv", [{"n": i / 3, "c": "uv"[i % 2], "label": "pq"[i % 2]} for i in range(30)]))
    one = open_source(as_csv(tmp_path / "one.csv", [{"n": 1.0, "c": "v"}]), modality=first.train.modality, classes=first.train.classes)
    assert torch.equal(one.train.encoded.raw(torch.tensor([0]))["categories"], first.train.encoded.raw(torch.tensor([3]))["categories"])


def test_broken_rows_are_set_aside_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    jsonl = write(
        tmp_path / "d.jsonl", '{"text": "one", "label": 1}', '{"text": "two", "la', "[1]", '{"text": " ", "label": 2}', '{"text": "five", "label": 2}'
    )
    found = open_source(jsonl)
    assert found.train.ids == ("row-000000", "row-000004") and len(found.facts.unreadable) == 3
    found = open_source(write(tmp_path / "d.csv", "text,label", "one,1", "two,2,3", "three,1"))
    assert found.train.ids == ("row-000000", "row-000002") and "line 3" in found.facts.unreadable[0][0]


@pytest.mark.parametrize("kind", ["image", "text", "table"])
def test_a_datasets_directory(tmp_path: Path, kind: str) -> None:
    datasets = pytest.importorskip("datasets")
    label = datasets.ClassLabel(names=["neg", "pos"])
    column = {
        "image": ("img", [Image.fromarray(np.full((9, 9, 3), i * 20, np.uint8)) for i in range(10)], datasets.Image()),
        "text": ("text", [f"sentence {i}" for i in range(10)], datasets.Value("string")),
        "table": ("x", [i * 0.7 for i in range(10)], datasets.Value("float32")),
    }[kind]
    rows = datasets.Dataset.from_dict({column[0]: column[1], "label": [0, 1] * 5}, features=datasets.Features({column[0]: column[2], "label": label}))
    splits = {"train": rows.select([3, 0, 1]), "test": rows.select([6, 7]), "validation": rows.select([4]), "unsupervised": rows.select([8, 9])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "all")
    found = open_source(tmp_path / "all")
    assert found.modality == kind and found.train.classes == ("neg", "pos") and found.test is not None
    assert found.train.labels.tolist() == [1, 0, 1, 0, -1, -1] and found.test.labels.tolist() == [0, 1]
    rows.save_to_disk(tmp_path / "one")
    assert len(open_source(tmp_path / "one").train) == 10
    (tmp_path / "one" / "state.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(UserError, match="refused"):
        open_source(tmp_path / "one")
    next((tmp_path / "all" / "train").glob("*.arrow")).write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a whole datasets directory"):
        open_source(tmp_path / "all")


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path("exploded"),)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["bomb.pkl", "bomb.pt", "bomb.bin", "bomb.csv", "bomb.parquet", "bomb.npy", "bomb.jsonl"])
def test_a_pickle_bomb_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match="refused.*any code"):
        open_source(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_mistakes_get_one_sentence(tmp_path: Path, animals: Path) -> None:
    table = as_csv(tmp_path / "table.csv", [{"sentence": s, "topic": "ab"[i % 2], "score": i / 3} for i, s in enumerate(SENTENCES)])
    (tmp_path / "nothing").mkdir()
    cases: list[tuple[dict[str, object], str]] = [
        ({"path": tmp_path / "animls"}, r"animls does not exist; .* has animals"),
        ({"path": animals, "labels": tmp_path / "tabel.csv"}, r"tabel\.csv does not exist.*table\.csv"),
        ({"path": animals, "test": tmp_path / "no"}, "does not exist"),
        ({"path": table, "text_column": "sentense"}, "no column 'sentense'; did you mean sentence?"),
        ({"path": table, "label_column": "topics"}, "no column 'topics'; did you mean topic?"),
        ({"path": table, "id_column": "key"}, "no column 'key'; it has 'sentence', 'topic', 'score'"),
        ({"path": table, "modality": "text"}, "no column 'text'"),
        ({"path": table, "modality": "smell"}, "no modality 'smell'"),
        ({"path": table, "modality": "image"}, "no column of images"),
        ({"path": table, "label_column": "score"}, "holds fractions"),
        ({"path": table, "text_column": "score", "modality": "text"}, "instead of text"),
        ({"path": table, "id_column": "topic"}, "'a' occurs more than once"),
        ({"path": animals, "modality": "text"}, "samples of kind text are rows"),
        ({"path": tmp_path / "nothing"}, "holds no file that is a sample"),
        ({"path": animals / "stray.bmp"}, "one sample .image."),
        ({"path": animals / "readme.txt"}, "of no kind"),
        ({"path": write(tmp_path / "e.csv", "")}, "empty line"),
        ({"path": write(tmp_path / "h.csv", "a,b")}, "holds no row"),
        ({"path": write(tmp_path / "t.csv", "a,a", "1,2")}, "more than one column called 'a'"),
        ({"path": write(tmp_path / "n.csv", "x,label", "nan,a", "nan,b")}, r"no column to learn from \('x': it is empty\)"),
        ({"path": write(tmp_path / "p.parquet", "text")}, "can not be read as PARQUET"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            open_source(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    (tmp_path / "latin.csv").write_bytes("text,label\nKäse,a\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        open_source(tmp_path / "latin.csv")


def test_labels_that_train_no_classifier(tmp_path: Path) -> None:
    for labels, message in ((["", "", ""], "nothing is labelled"), (["a"] * 6, "all 6 labels say 'a'"), (["a", "a", "b"], r"too few \(a 2, b 1\)")):
        found = open_source(write(tmp_path / "d.csv", "x,label", *(f"{i * 0.37},{label}" for i, label in enumerate(labels))))
        with pytest.raises(UserError, match=message):
            require_trainable(found.train)
    require_trainable(open_source(write(tmp_path / "d.csv", "x,label", *(f"{i * 0.37},{i % 2}" for i in range(5)))).train)


def test_a_quarantine_that_can_not_be_written(tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    with pytest.raises(UserError, match="can not write"):
        Quarantine(tmp_path / "file" / "run").add("a.png", "broken")
