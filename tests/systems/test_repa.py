"""REPA: the teacher's tokens reach the inside of the flow model, and only through the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.systems.training import made
from understudy import models
from understudy.claims import learn, probe
from understudy.data import known
from understudy.data.samples import Batch, View
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.teachers.base import Signals, Teacher


class Knows(Teacher):
    """The class of every image, in each of its tokens."""

    fingerprint = "knows"  # type: ignore[assignment]
    offers = frozenset({"tokens"})  # type: ignore[assignment]

    def answer(self, batch: Batch, view: View) -> Signals:
        return Signals(tokens=F.one_hot(batch.labels, 10).float().unsqueeze(1).expand(-1, 4, -1))


def test_what_the_teacher_knows_is_seen_inside_the_model() -> None:
    train, test = hold_out(known.digits(), 0.4, 100)
    start = models.build("tiny-dit", train.modality, (), 0, width=32, depth=2, reads=2)
    few = known.few_labels(train, 10, 100).labelled

    def seen(slug: str, **options: Any) -> float:
        return probe(learn(slug, start, train, seed=100, steps=120, optim__lr=5e-3, **options).student, few, test)

    assert seen("repa", teacher=Knows(), settings={"weight": 4.0, "hidden": 64}) > seen("flow-matching") + 0.08


class Says(Teacher):
    """The same tokens of every image."""

    fingerprint = "says"  # type: ignore[assignment]
    offers = frozenset({"tokens"})  # type: ignore[assignment]

    def __init__(self, tokens: Tensor | None):
        super().__init__()
        self.tokens = tokens

    def answer(self, batch: Batch, view: View) -> Signals:
        assert view.name == "plain", "the teacher sees the clean image"
        return Signals(tokens=None if self.tokens is None else self.tokens.expand(len(view), -1, -1))


def test_the_alignment_moves_the_early_blocks_alone(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(32))
    system = made("repa", data, tmp_path, "tiny-dit", teacher=Says(torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(0))))
    terms = system.losses(data.batch(torch.arange(8)))
    assert {name: term.shape for name, term in terms.items()} == {"flow": (8,), "alignment": (8,)}
    assert bool((terms["alignment"] >= 0).all()) and bool((terms["alignment"] <= 2 * system.settings.weight).all())
    terms["alignment"].sum().backward()
    reads = system.model.reads
    assert all(block.attention.qkv.weight.grad is None for block in system.model.blocks[reads:])
    assert system.model.patches.weight.grad.abs().sum() > 0


def test_a_teacher_without_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its teacher gives none"):
        made("repa", known.digits().take(torch.arange(32)), tmp_path, "tiny-dit", teacher=Says(None))
