"""Token-level labels: what a language model would have said, stored, and learned from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from understudy import keyed, maths, models
from understudy.data import problems
from understudy.data.modalities import GenerationModality
from understudy.data.modalities.generation import Exchange
from understudy.data.samples import Samples
from understudy.errors import UserError
from understudy.labels import LabelStore, TokenDraws, TokenTopK
from understudy.teachers import Frozen, Stored, label_tokens, token_store_for
from understudy.teachers import tokens as labelling

WORDS = GenerationModality.characters(["abcdefghijklmnopqrstuvwxyz ="], length=24)


def texts(count: int = 30, modality: GenerationModality = WORDS) -> Samples:
    said = ["".join(chr(97 + int(letter)) for letter in keyed.integers(i, 26, (3 + i % 9,))) for i in range(count)]
    exchanges = [Exchange(f"{word[:2]}=", word if i % 5 else None) for i, word in enumerate(said)]
    return problems.samples_of(exchanges, modality, [f"text {i}" for i in range(count)])


def teacher(modality: GenerationModality = WORDS, key: int = 3) -> Frozen:
    model: Any = models.build("tiny-lm", modality, (), key, width=32)
    torch.nn.init.normal_(model.backbone.words.weight, std=0.5, generator=keyed.generator(key))
    return Frozen(model)


def stored(folder: Path, codec: str = "topk", **options: Any) -> tuple[Frozen, Samples, Stored]:
    live, data = teacher(), texts()
    store = token_store_for(folder, live, data, codec, **options)
    added = label_tokens(live, data, store, batch=4)
    assert added == sum(len(e.answer) + 1 for e in problems.exchanges_of(data) if e.answer is not None) == len(LabelStore.open(folder))
    return live, data, Stored(folder)


def whole(live: Frozen, batch: Any) -> Tensor:
    """The teacher's probabilities at every token of the answers ``[N, V]``."""
    view = batch.view("plain")
    logits = live(batch, view).logits
    assert logits is not None
    return logits[:, :-1][view.inputs["answer"][:, 1:]].softmax(-1)


def dense(words: Any, vocabulary: int) -> Tensor:
    return torch.zeros(len(words.indices), vocabulary).scatter_add(1, words.indices, words.probabilities)


@pytest.mark.parametrize("at_once", [1, 64, 1 << 23])
def test_stored_words_are_the_teachers_at_every_token(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "_AT_ONCE", at_once)
    live, data, store = stored(tmp_path, k=6, cut=0.0)
    for index in (torch.arange(0, 30, 3), torch.tensor([7, 2, 19])):
        batch = data.batch(index)
        words, p = store(batch, batch.view("plain")).words, whole(live, batch)
        assert words is not None and words.tail == "uniform" and words.indices.shape == (len(p), 6)
        top, indices = p.topk(6)
        assert (dense(words, p.shape[1]) - torch.zeros_like(p).scatter(1, indices, top)).abs().max() <= store.store.codec.error()


def test_draws_of_a_token_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    live, data, store = stored(tmp_path / "a", "draws", k=9)
    again = token_store_for(tmp_path / "b", live, data, "draws", k=9)
    label_tokens(live, data, again, batch=1)
    batch = data.batch(torch.arange(30))
    first, second = (one(batch, batch.view("plain")).words for one in (store, Stored(tmp_path / "b")))
    assert first is not None and second is not None and first.tail == "zero"
    assert (dense(first, 40) == dense(second, 40)).all(1).float().mean() > 0.97, "but for draws on the edge of a rounding error"
    assert torch.allclose(first.probabilities.sum(1), torch.ones(len(first.probabilities)))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_share_of_draws_is_an_unbiased_estimate(kind: torch.dtype) -> None:
    """Of every probability, and so of the gradient of the cross-entropy; the largest words alone are not one."""
    n, v, draws = 20_000, 40, 8
    logits = (2.5 * keyed.normal(5, (v,))).to(kind)
    p = logits.double().softmax(0)
    values = labelling._values(TokenDraws(v, draws), lambda rows: logits.expand(len(range(n)[rows]), v), keyed.fold(1, torch.arange(n)))
    codec = TokenDraws(v, draws, frequent=(3, 1))
    read = codec.unpack(codec.pack(values, 0))
    mean = torch.zeros(v, dtype=torch.float64).index_add(0, read["indices"].flatten(), read["probabilities"].double().flatten()) / n
    error = (mean - p) / (p * (1 - p) / (draws * n)).sqrt()
    assert error.abs().max() < 4.5 and abs(float(error.square().mean()) - 1) < 1.0, error
    top = TokenTopK(v, draws, 0.0)
    largest = p.topk(draws)
    kept = top.unpack(top.pack({"probabilities": largest.values[None], "indices": largest.indices[None]}, 0))
    cut = torch.zeros(v, dtype=torch.float64).index_add(0, kept["indices"][0], kept["probabilities"][0].double())
    assert ((cut / cut.sum() - p).abs() / (p * (1 - p) / (draws * n)).sqrt()).max() > 20

    hidden, weight = keyed.normal(6, (1, 5)).double(), keyed.normal(7, (v, 5)).double()
    states = hidden.expand(n, 5).clone().requires_grad_()
    losses = maths.fused_topk_kl(states, weight, indices=read["indices"], probabilities=read["probabilities"], tail="zero")
    (gradients,) = torch.autograd.grad(losses.sum(), states)
    exact = ((hidden @ weight.T).softmax(1) - p) @ weight
    assert ((gradients.mean(0) - exact[0]).abs() < 4.5 * gradients.std(0) / n**0.5).all()


def test_stopped_labelling_goes_on_and_another_tokenizer_is_refused(tmp_path: Path) -> None:
    live, data, store = stored(tmp_path)
    assert label_tokens(live, data, token_store_for(tmp_path, live, data, "topk")) == 0
    other = GenerationModality.characters(["abcdefghijklmnopqrstuvwxyz ="], length=24)
    other.tokenizer.add_tokens(["ab"])
    batch = texts(modality=other).batch(torch.arange(4))
    with pytest.raises(UserError, match="of the tokenizer .* and this run has the tokenizer"):
        store(batch, batch.view("plain"))
    with pytest.raises(UserError, match="of the tokenizer"):
        label_tokens(teacher(other), texts(modality=other), LabelStore.create(tmp_path / "x", teacher=teacher(other).fingerprint, data="d", view={"name": "plain"}, codec=store.store.codec, tokenizer="t"))  # fmt: skip
    batch = data.batch(torch.arange(4))
    with pytest.raises(UserError, match="of the answers that were given"):
        store(batch, batch.view("prompt"))
    with pytest.raises(UserError, match="finish labelling"):
        store(texts(40).batch(torch.arange(36, 40)), texts(40).batch(torch.arange(36, 40)).view("plain"))
    with pytest.raises(UserError, match="there is none"):
        token_store_for(tmp_path / "y", live, texts(1), "topk")
