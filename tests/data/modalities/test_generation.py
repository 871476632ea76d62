"""Prompts and answers: what is learned, what stands before it, and what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy.data import modalities
from understudy.data.modalities import Exchange, GenerationModality
from understudy.errors import UserError

LETTERS = GenerationModality.characters(["abc=\n"], length=8)
ASKED = [Exchange("ab=", "c"), Exchange("=", "cab"), Exchange("a=")]
KEYS = torch.arange(3)


def raw(exchanges: list[Exchange], modality: GenerationModality = LETTERS) -> dict[str, torch.Tensor]:
    return modality.collate([modality.encode(exchange) for exchange in exchanges])


def test_the_answer_and_its_end_are_learned_and_nothing_else() -> None:
    inputs = LETTERS.view(raw(ASKED), "plain", KEYS).inputs
    for row, exchange in enumerate(ASKED):
        learned = inputs["tokens"][row][inputs["answer"][row]]
        assert learned.tolist() == ([] if exchange.answer is None else [*LETTERS.tokens(exchange.answer), LETTERS.end])
        assert int((~inputs["padding"][row]).sum()) == 1 + len(exchange.prompt) + len(learned)
    assert inputs["tokens"][:, 0].tolist() == [LETTERS.start] * 3


def test_a_prompt_is_padded_in_front_and_shows_nothing_of_the_answer() -> None:
    inputs = LETTERS.view(raw(ASKED), "prompt", KEYS).inputs
    for row, exchange in enumerate(ASKED):
        assert inputs["tokens"][row][~inputs["padding"][row]].tolist() == [LETTERS.start, *LETTERS.tokens(exchange.prompt)]
        assert not inputs["padding"][row, -1]


def test_decoding_stops_at_the_end() -> None:
    assert LETTERS.decode(torch.tensor([[2, 3, 1, 4], [4, 4, 4, -1]])) == [LETTERS.tokenizer.decode([2, 3]), LETTERS.tokenizer.decode([4, 4, 4])]
    for modality in (LETTERS, GenerationModality.train(["abc = cba\n"], 260, 32)):
        said = torch.tensor([[*modality.tokens("ab\nc="), modality.end]])
        assert modality.decode(said) == ["ab\nc="]


def test_prompt_tokens_do_not_depend_on_the_answer() -> None:
    words = GenerationModality.train(["aaaa"] * 5 + ["aa aa"], 262, 32)
    with_answer, without = words.encode(Exchange("aa", "aa")), words.encode(Exchange("aa"))
    assert with_answer["tokens"][: int(with_answer["prompt"])].tolist() == without["tokens"].tolist()


def test_what_is_too_long_loses_the_beginning_of_its_prompt_and_the_end_of_its_answer() -> None:
    long = LETTERS.encode(Exchange("abcabcabcabc=", "abc"))
    assert (int(long["prompt"]), int(long["length"])) == (7, 8) and long["tokens"][6] == LETTERS.tokens("=")[0]
    cut = LETTERS.encode(Exchange("ab=", "abcabcabc"))
    assert int(cut["length"]) == 8 and LETTERS.end not in cut["tokens"][4:].tolist()


def test_an_empty_prompt_still_predicts_the_first_token() -> None:
    bare = GenerationModality(LETTERS.tokenizer, 8, LETTERS.end, LETTERS.pad, start=None)
    assert bare.encode(Exchange("", "a"))["tokens"].tolist() == [bare.end, *bare.tokens("a"), bare.end]
    assert bare.encode(Exchange("a", "b"))["tokens"].tolist() == [*bare.tokens("ab"), bare.end]


def test_rejected_answers_are_a_view_of_their_own() -> None:
    pairs = raw([Exchange("ab=", "c", "a"), Exchange("=", "c", "bbb")])
    inputs = LETTERS.view(pairs, "rejected", KEYS[:2]).inputs
    assert [LETTERS.decode(inputs["tokens"][i][inputs["answer"][i]].unsqueeze(0)) for i in range(2)] == [["a"], ["bbb"]]
    with pytest.raises(UserError, match="no view 'rejected'"):
        LETTERS.view(raw(ASKED), "rejected", KEYS)
    with pytest.raises(ValueError, match="either all"):
        raw([Exchange("a", "b", "c"), Exchange("a", "b")])


def test_a_saved_tokenizer_is_the_same_and_another_is_refused(tmp_path: Path) -> None:
    LETTERS.tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = modalities.restore(LETTERS.signature(), tmp_path)
    assert again.signature() == LETTERS.signature()
    GenerationModality.characters(["xyz"], 8).tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="not the tokenizer"):
        modalities.restore(LETTERS.signature(), tmp_path)
