"""Pairs of texts: what is read together and apart, that views are keyed and do not depend on the batch, and how they are read from files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from understudy import keyed, models
from understudy.data.modalities import restore
from understudy.data.modalities.text import TextModality
from understudy.data.modalities.text_pair import Pair, TextPairModality, texts_of
from understudy.data.samples import InMemory, Samples
from understudy.data.source import open_source
from understudy.errors import UserError

PAIRS = [Pair("a cat sat", "on the mat"), Pair("one", "two three four five"), Pair("the dog ran far away from the cat", "it ran")]
MODALITY = TextPairModality(TextModality.train([text for pair in PAIRS for text in pair], vocabulary=300).tokenizer, 64)


def samples(pairs: list[Pair] = PAIRS) -> Samples:
    raw = MODALITY.collate([MODALITY.encode(pair) for pair in pairs])
    return Samples(MODALITY, InMemory(raw, pairs), tuple(str(pair) for pair in pairs), torch.full((len(pairs),), -1))


def said(view: dict[str, torch.Tensor]) -> list[str]:
    """The tokens that are not padding, special ones by name."""
    names = MODALITY.tokenizer.id_to_token
    return ["".join(names(int(t)) for t in row[~pad]).replace("Ġ", " ") for row, pad in zip(view["tokens"], view["padding"], strict=True)]


def test_together_and_apart() -> None:
    batch = samples().batch(torch.arange(3))
    assert said(batch.view("plain").inputs) == [f"[CLS] {a}[SEP] {b}[SEP]" for a, b in PAIRS]
    assert said(batch.view("first").inputs) == [f"[CLS] {a}[SEP]" for a, _ in PAIRS]
    assert said(batch.view("second").inputs) == [f"[CLS] {b}[SEP]" for _, b in PAIRS]


def test_turned_pairs_come_in_both_orders_and_each_by_its_own_key() -> None:
    many = samples([Pair(f"{a}{i}", b) for i in range(20) for a, b in PAIRS])
    batch = many.batch(torch.arange(60), key=3)
    turned = said(batch.view("turned").inputs)
    plain, other = said(batch.view("plain").inputs), [f"[CLS] {b}[SEP] {a}[SEP]" for a, b in (many.encoded.original(i) for i in range(60))]
    assert all(t in (p, o) for t, p, o in zip(turned, plain, other, strict=True))
    assert 15 < sum(t == p for t, p in zip(turned, plain, strict=True)) < 45
    assert said(many.batch(torch.tensor([7, 2]), key=3).view("turned").inputs) == [turned[7], turned[2]], "whatever the batch"


def test_a_text_alone_takes_the_views_of_texts() -> None:
    batch = samples().batch(torch.arange(3), key=1)
    weak = batch.view("first", 0, base="strong").inputs
    assert said(weak) != said(batch.view("first").inputs)
    masked = batch.view("masked", ratio=0.5)
    assert masked.masked is not None and masked.masked.shape == masked.inputs["tokens"].shape
    with pytest.raises(UserError, match="no view 'loud'"):
        batch.view("loud")


def test_the_texts_one_by_one() -> None:
    alone = texts_of(samples().take(torch.tensor([2, 0])))
    assert len(alone) == 4 and [alone.encoded.original(int(p)) for p in alone.positions] == [*PAIRS[2], *PAIRS[0]]
    expected = [f"[CLS] {text}[SEP]" for text in (*PAIRS[2], *PAIRS[0])]
    assert said(alone.batch(torch.arange(4)).view("plain").inputs) == expected
    assert alone.modality.signature() == MODALITY.alone.signature()
    with pytest.raises(UserError, match="no pairs of texts"):
        texts_of(alone)


def test_each_text_gets_half_of_the_places() -> None:
    short = TextPairModality(MODALITY.tokenizer, 16)
    assert int(short.encode(Pair("word " * 30, "word " * 30))["length"]) == 16
    assert len(short.alone.encode("word " * 30)["tokens"]) == 16


def test_a_saved_modality_is_the_same_one(tmp_path: Path) -> None:
    MODALITY.save(tmp_path)
    again = restore(MODALITY.signature(), tmp_path)
    assert isinstance(again, TextPairModality) and again.signature() == MODALITY.signature()
    MODALITY.alone.save(tmp_path)
    alone = restore(MODALITY.alone.signature(), tmp_path)
    assert not isinstance(alone, TextPairModality) and alone.signature() == MODALITY.alone.signature()


def test_every_text_model_reads_pairs() -> None:
    student = models.build("tiny-text", MODALITY, ("yes", "no"), 0)
    batch = samples().batch(torch.arange(3))
    together = student(batch.view("plain").inputs)
    alone = torch.cat([student(samples().batch(torch.tensor([i])).view("plain").inputs) for i in range(3)])
    torch.testing.assert_close(together, alone)
    keys = keyed.of_texts(["a", "b"])
    assert student(MODALITY.view(MODALITY.examples(2), "plain", keys).inputs).shape == (2, 2)


def rows(folder: Path, lines: list[tuple[str, str, str]]) -> Path:
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "label"])
        writer.writerows(lines)
    return folder / "pairs.csv"


def test_two_columns_of_a_file(tmp_path: Path) -> None:
    lines = [(f"what is {i}", f"it is {i} indeed", "yes" if i % 2 else "no") for i in range(300)]
    path = rows(tmp_path, [*lines[:299], ("what is that", "  ", "no")])
    found = open_source(path, text_column="question, answer")
    assert found.modality == "text" and isinstance(found.train.modality, TextPairModality) and found.train.classes == ("no", "yes")
    assert len(found.train) == 299 and "answer is empty" in found.facts.unreadable[0][1]
    assert found.train.encoded.original(3) == Pair("what is 3", "it is 3 indeed")
    batch = found.train.batch(torch.tensor([5, 3]))
    assert batch.raw["first"].shape == (2,) and batch.view("first").inputs["tokens"].shape[0] == 2
    assert "pair of texts, question and answer" in " ".join(found.describe())
    again = open_source(path, text_column="question,answer", modality=found.train.modality)
    assert torch.equal(again.train.batch(torch.tensor([5])).raw["tokens"], found.train.batch(torch.tensor([5])).raw["tokens"])


@pytest.mark.parametrize(
    ("column", "says"),
    [("question,reply", "no column 'reply'"), ("question,question", "names 1"), ("question,answer,label", "names 3"), ("text,answer", "no column 'text'")],
)
def test_wrong_columns_are_said_in_one_sentence(column: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        open_source(rows(tmp_path, [("a b", "c d", "x"), ("e f", "g h", "y")]), text_column=column)


def test_models_of_pairs_and_of_texts_refuse_each_other_s_data(tmp_path: Path) -> None:
    path = rows(tmp_path, [("a b", "c d", "x"), ("e f", "g h", "y")])
    with pytest.raises(UserError, match="reads pairs of texts; name both"):
        open_source(path, text_column="question", modality=MODALITY)
    with pytest.raises(UserError, match="reads single texts"):
        open_source(path, text_column="question,answer", modality=MODALITY.alone)
