from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from understudy import keyed
from understudy.errors import UserError
from understudy.labels import TokenDraws, TokenTopK, codec, golomb, ragged

V = 3000


def said(tokens: int, sharpness: float, vocabulary: int = V) -> Tensor:
    """What a teacher says: frequent words first, as in a language, and something else at every token."""
    usual = -torch.log(torch.arange(vocabulary) + 3.0)
    return torch.softmax(sharpness * (usual + 2 * keyed.normal(keyed.of_text(f"{tokens}{sharpness}"), (tokens, vocabulary))), 1)


def top(p: Tensor, k: int) -> dict[str, Tensor]:
    values, indices = p.topk(k)
    return {"probabilities": values, "indices": indices}


@pytest.mark.parametrize("highest", [0, 1, 7, 1000, 1 << 17])
def test_numbers_come_back_in_the_bits_that_were_counted(highest: int) -> None:
    draw = np.random.default_rng(highest)
    x, order, where = draw.integers(0, highest + 1, (50, 9)), draw.integers(0, 18, (50, 9)), draw.random((50, 9)) < 0.7
    writer = golomb.Writer(50, 9 * 40 + 6)
    writer.fixed(np.arange(50), 6)
    for i in range(9):
        writer.golomb(x[:, i], order[:, i], where[:, i])
    content, lengths = writer.finish()
    assert (lengths == -(-(6 + np.where(where, golomb.bits(x, order), 0).sum(1)) // 8)).all()
    reader = golomb.Reader(np.append(content, np.zeros(8, np.uint8)), np.cumsum(lengths) - lengths)
    assert (reader.fixed(6) == np.arange(50)).all()
    for i in range(9):
        assert (reader.golomb(order[:, i], where[:, i])[where[:, i]] == x[:, i][where[:, i]]).all()


def test_any_of_labels_of_different_lengths_is_found() -> None:
    lengths = np.random.default_rng(0).integers(0, 255, 200).astype(np.uint8)
    begins = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[:-1]
    assert (ragged.places(lengths, ragged.starts_of(lengths), np.arange(200)) == begins).all()
    content = np.random.default_rng(1).integers(0, 255, int(lengths.sum())).astype(np.uint8)
    order = np.random.default_rng(2).permutation(200)[:77]
    taken, left = ragged.taken(content, lengths, order)
    assert (taken == np.concatenate([content[begins[i] : begins[i] + lengths[i]] for i in order])).all() and (left == lengths[order]).all()


@pytest.mark.parametrize("k", [1, 2, 20, 50])
@pytest.mark.parametrize("sharpness", [0.02, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("cut", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_topk_comes_back_within_its_bound(k: int, sharpness: float, cut: float, kind: torch.dtype) -> None:
    p = said(40, sharpness)
    kept = TokenTopK(V, k, cut, frequent=tuple(range(0, 200, 2)))
    given = top(p.to(kind), k)
    p = torch.zeros(40, V).scatter(1, given["indices"], given["probabilities"].float())
    p /= p.sum(1, keepdim=True).clamp_min(1.0)
    read = kept.unpack(kept.pack(given, 0))
    back = torch.zeros(40, V).scatter_add(1, read["indices"], read["probabilities"])
    assert (back - p).abs().max() <= kept.error() + 1e-6
    assert (back.sum(1) <= 1 + 1e-6).all() and torch.allclose(back.sum(1) + read["tail"], torch.ones(40), atol=1e-6)
    there = back > 0
    assert ((p * ~there).sum(1) <= cut + 1e-6).all() and not (there & (p == 0)).any()
    sure = there & (p > 0.002)
    assert ((back.sqrt() - p.sqrt()).abs()[sure] <= 2 / 32).all()
    assert ((back / p).log().abs()[there & (p > 1e-6)] <= 1.4 + 1e-4).all()


def test_an_empty_answer_stays_empty_and_a_certain_one_certain() -> None:
    kept = TokenTopK(V, 5, 0.001)
    p = torch.zeros(2, 5)
    p[1, 0] = 1.0
    read = kept.unpack(kept.pack({"probabilities": p, "indices": torch.arange(5).repeat(2, 1)}, 0))
    assert read["probabilities"][0].sum() == 0 and read["probabilities"][1].sum() == read["probabilities"][1].max() == 1


def test_draws_come_back_exactly() -> None:
    kept = TokenDraws(V, 37, frequent=tuple(range(50)))
    drawn = torch.multinomial(said(60, 1.0), 37, replacement=True, generator=torch.Generator().manual_seed(1))
    read = kept.unpack(kept.pack({"drawn": drawn}, 0))
    back = torch.zeros(60, V).scatter_add(1, read["indices"], read["probabilities"])
    assert torch.allclose(back, torch.nn.functional.one_hot(drawn, V).sum(1) / 37, atol=1e-7)


def test_frequent_words_take_fewer_bytes() -> None:
    """Twenty words anywhere among a hundred thousand, told and not told that they are often there."""
    often = keyed.permutation(3, 100_000)[:64]
    p = torch.full((30, 20), 0.05)
    indices = torch.stack([often[keyed.permutation(i, 64)[:20]] for i in range(30)])
    without, known = (TokenTopK(100_000, 20, 0.0, frequent) for frequent in ((), tuple(often.tolist())))
    lengths = [kept.pack({"probabilities": p, "indices": indices}, 0)["lengths"].mean() for kept in (without, known)]
    assert lengths[1] < 0.6 * lengths[0]
    assert sorted(known.unpack(known.pack({"probabilities": p, "indices": indices}, 0))["indices"][3].tolist()) == sorted(indices[3].tolist())


def test_the_worst_case_fits_its_byte() -> None:
    """Gaps and levels as uneven as can be."""
    kept = TokenTopK((1 << 18) - 1, 50, 0.0)
    ranks = torch.cat([torch.arange(25), torch.linspace(1000, (1 << 18) - 2, 25).long()]).repeat(2, 1)
    p = torch.tensor([0.02, 1e-7]).repeat(25).repeat(2, 1).sort(descending=True).values
    fields = kept.pack({"probabilities": p, "indices": ranks}, 0)
    assert fields["content"].size == int(fields["lengths"].astype(int).sum()) and fields["lengths"].max() < 256
    assert sorted(kept.unpack(fields)["indices"][0].tolist()) == ranks[0].tolist()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TokenTopK(V, 51), "1 to 50 words"),
        (lambda: TokenTopK(V, 5, 1.0), "cut less than all"),
        (lambda: TokenTopK(1 << 19), "vocabulary of 2 to 262144"),
        (lambda: TokenTopK(V, 5, 0.0, (3, 3)), "different words"),
        (lambda: TokenDraws(V, 0), "1 to 50 draws"),
        (lambda: TokenTopK(V, 2).pack({"probabilities": torch.full((1, 2), 0.6), "indices": torch.zeros(1, 2)}, 0), "sum to more than one"),
        (lambda: TokenTopK(V, 2).pack({"probabilities": torch.ones(1, 3), "indices": torch.zeros(1, 3)}, 0), "2 words and probabilities"),
        (lambda: TokenDraws(V, 2).pack({"drawn": torch.tensor([[1, V]])}, 0), "2 words of the vocabulary"),
    ],
)
def test_what_cannot_be_stored_is_refused(make: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make()


def test_codecs_come_back_from_json() -> None:
    for kept in (TokenTopK(V, 7, 0.01, (5, 2)), TokenDraws(V, 9, (1,))):
        described = {name: list(value) if isinstance(value, tuple) else value for name, value in kept.describe().items()}
        assert codec(**described) == kept
