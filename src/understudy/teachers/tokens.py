"""A language model's answers to every token of given answers, as labels on disk: without ever holding tokens x vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy import keyed, maths
from understudy.data.samples import Batch, Samples
from understudy.errors import UserError
from understudy.labels import LabelStore, TokenCodec, TokenDraws, TokenTopK, Values, manifest
from understudy.teachers.kinds import Frozen
from understudy.teachers.labelling import by_length

_AT_ONCE = 1 << 23
"""Logits held at a time."""
_FREQUENT = 4096
"""Words that are told to be frequent: with them a word takes a tenth less, and a manifest stays short."""


def token_store_for(
    folder: str | Path, teacher: Frozen, samples: Samples, codec: str, *, k: int = 50, cut: float = 0.001, batch: int = 8, device: Any = "cpu"
) -> LabelStore:
    """A store for what ``teacher`` would have said at every token of the given answers, or the unfinished one of the same in ``folder``.

    ``codec``: topk, the ``k`` most probable words but for those that together have no more than ``cut``; or draws, ``k`` draws from the whole distribution. Which words are
    frequent the teacher says itself, of at most 64 samples. Raises UserError where there is no answer to any prompt.
    """
    if not len(samples.labelled):
        raise UserError("token labels are of answers that are given, and there is none; name the column that has them with --label-column")
    signature = samples.modality.signature()
    vocabulary = samples.modality.vocabulary  # type: ignore[attr-defined]
    k = min(k, vocabulary - 1)
    standing = manifest.read(Path(folder)) if (Path(folder) / "manifest.json").exists() else None
    if standing is not None:
        frequent = tuple(standing.codec.get("frequent", ()))
    else:
        frequent = _frequent(teacher, samples.labelled, vocabulary, min(k, 50), batch, device)
    kind: TokenCodec = TokenDraws(vocabulary, k, frequent) if codec == "draws" else TokenTopK(vocabulary, k, cut, frequent)
    return LabelStore.create(
        folder, teacher=teacher.fingerprint, data=samples.fingerprint, view={"name": "plain"}, codec=kind, data_size=len(samples), tokenizer=signature["tokenizer"],
    )  # fmt: skip


def label_tokens(
    teacher: Frozen, samples: Samples, store: LabelStore, *, batch: int = 8, device: torch.device | str = "cpu", seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> int:  # fmt: skip
    """Let ``teacher`` label every token of the answers of all samples that have no label yet; returns how many tokens that were. ``seed``: of the draws."""
    store.require(teacher=teacher.fingerprint, tokenizer=samples.modality.signature()["tokenizer"])
    before, added = LabelStore.open(store.folder), 0
    with store:
        for index in by_length(samples).split(batch):
            part = samples.batch(index, device=device)
            view = part.view("plain")
            answer = view.inputs["answer"].clone()
            answer[:, 0] = False  # a first token has nothing to be predicted from
            last = answer.long().cumsum(1).argmax(1).cpu()
            new = ~before.have(samples.keys[index], last) & answer.any(1).cpu()
            if new.any():
                sample, place = (answer & new.to(answer.device).unsqueeze(1)).nonzero(as_tuple=True)
                keys = part.keys[sample]
                values = _values(store.codec, _logits_at(teacher, part, sample, place), keyed.fold(keyed.fold(seed, "draws"), keys, place))  # type: ignore[arg-type]
                store.append(keys, place, values)
                added += len(place)
            if progress is not None:
                progress(len(index))
    return added


def _logits_at(teacher: Frozen, batch: Batch, sample: Tensor, place: Tensor) -> Callable[[slice], Tensor]:
    """What makes the logits ``[n, V]`` that some of the places are predicted with."""
    view = batch.view("plain")
    found = teacher.states(batch, view)
    if found is None:
        logits = teacher(batch, view).logits
        assert logits is not None, "a policy gives logits"
        return lambda rows: logits[sample[rows], place[rows] - 1]
    states, head = found
    return lambda rows: head(states[sample[rows], place[rows] - 1])


@torch.no_grad()
def _values(codec: Any, logits_of: Callable[[slice], Tensor], keys: Tensor) -> Values:
    """What the codec keeps of each token, some tokens at a time."""
    parts: list[Values] = []
    step = max(1, _AT_ONCE // codec.vocabulary)
    for start in range(0, len(keys), step):
        rows = slice(start, start + step)
        logits = logits_of(rows)[:, : codec.vocabulary].float()
        if isinstance(codec, TokenDraws):
            uniform = (keyed.bits(keys[rows], (codec.draws,)) & ((1 << 53) - 1)).double() * 2.0**-53
            parts.append({"drawn": maths.tokens_at(logits, uniform)})
        else:
            top = logits.softmax(-1).topk(codec.k)
            parts.append({"probabilities": top.values, "indices": top.indices})
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def _frequent(teacher: Frozen, samples: Samples, vocabulary: int, k: int, batch: int, device: Any) -> tuple[int, ...]:
    """The words that the teacher considers most often, at the tokens of a few answers."""
    counts = torch.zeros(vocabulary)
    for part in samples.take(torch.arange(min(64, len(samples)))).batches(batch, device):
        answer = part.view("plain").inputs["answer"].clone()
        answer[:, 0] = False
        sample, place = answer.nonzero(as_tuple=True)
        considered = _values(TokenTopK(vocabulary, k), _logits_at(teacher, part, sample, place), part.keys[sample])["indices"]
        counts += torch.bincount(considered.flatten(), minlength=vocabulary)
    return tuple(counts.argsort(descending=True, stable=True)[: min(_FREQUENT, int((counts > 0).sum()))].tolist())
