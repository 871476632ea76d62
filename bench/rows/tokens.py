"""Token-level targets of 128,256 words: bytes a token on disk, and microseconds to have it back.

The teacher is simulated: words by rank with exponent 1.2, each token with a taste and a sharpness of its own, so that its entropy (2 nats), the mass of its 50 likeliest words (0.9) and
their ranks are those of SmolLM2-135M on English documentation. Where the words of a token are any words at all, 50 of them take 79.5 bytes whatever the code: log2 of the number
of such sets. DistillKit publishes 114 bytes for k = 50. ``bytes`` are those of shards, index and lengths included.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from bench import Line, line
from understudy import keyed, maths
from understudy.labels import LabelStore, TokenCodec, TokenDraws, TokenTopK

VOCABULARY, TEXT = 128_256, 256
DISTILLKIT = 114


def measure(part: str, quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    texts, repeats = (4, 5) if quick else (16, 15)
    top, drawn = zip(*(answers(text) for text in range(texts + 4)), strict=True)
    frequent = often(top[:4])
    kinds: dict[str, tuple[TokenCodec, float, str]] = {
        "topk": (TokenTopK(VOCABULARY, 50, 0.001, frequent), 60, "k = 50 but for the last 0.1 %"),
        "topk-all": (TokenTopK(VOCABULARY, 50, 0.0, frequent), 60, "all of k = 50"),
        "draws": (TokenDraws(VOCABULARY, 50, frequent), 40, "50 draws, unbiased"),
    }
    for name, (codec, most, what) in kinds.items():
        if part not in ("", name):
            continue
        said = drawn[4:] if name == "draws" else top[4:]
        with tempfile.TemporaryDirectory() as folder:
            keys = keyed.of_texts([f"text {i}" for i in range(texts)])
            with LabelStore.create(Path(folder), teacher="t", data="d", view={"name": "plain"}, codec=codec, tokenizer="t") as store:
                for key, values in zip(keys, said, strict=True):
                    store.append(key.expand(TEXT), torch.arange(TEXT), values)
            size = sum(f.stat().st_size for f in Path(folder).glob("shard-*")) / (texts * TEXT)
            yield line(f"tokens/{name}", [size], f"bytes a token, {what}", most, f"DistillKit: {DISTILLKIT} bytes", "published")
            asked, places = keys.repeat_interleave(TEXT), torch.arange(TEXT).repeat(texts)
            store = LabelStore.open(Path(folder))
            store.read(asked, places)
            yield line(f"tokens/{name}-decode", [1e6 * seconds(store, asked, places) / len(asked) for _ in range(repeats)], "us a token, lookup included", 10)
            if name != "draws":
                lost = torch.cat([divergence(store, key, values) for key, values in zip(keys, said, strict=True)])
                yield line(f"tokens/{name}-error", lost.tolist(), "nats of KL(stored k || decoded)", 0.01)


def answers(text: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the teacher says at the tokens of a text: its 50 likeliest words, and 50 draws."""
    key = keyed.fold(7, text)
    usual = -1.2 * torch.log(torch.arange(VOCABULARY) + 2.7)
    sharp = keyed.uniform(keyed.fold(key, "sharp"), (TEXT, 1), 0.9, 2.7)
    taste = torch.randn(TEXT, VOCABULARY, generator=keyed.generator(int(key)))
    logits = sharp * (usual + 3 * taste)
    best = logits.softmax(1).topk(50)
    uniform = keyed.uniform(keyed.fold(key, "draws"), (TEXT, 50)).double()
    drawn = torch.cat([maths.tokens_at(some, u) for some, u in zip(logits.split(32), uniform.split(32), strict=True)])
    return {"probabilities": best.values, "indices": renamed(best.indices)}, {"drawn": renamed(drawn)}


def renamed(words: Tensor) -> Tensor:
    """Words numbered as a tokenizer would: not by how often they occur."""
    return words * 50_021 % VOCABULARY


def often(said: tuple[dict[str, Tensor], ...]) -> tuple[int, ...]:
    """The words that occur most often in some texts."""
    counts = torch.bincount(torch.cat([one["indices"].flatten() for one in said]), minlength=VOCABULARY)
    return tuple(counts.argsort(descending=True, stable=True)[: min(4096, int((counts > 0).sum()))].tolist())


def divergence(store: LabelStore, key: Tensor, values: dict[str, Tensor]) -> Tensor:
    """KL of each token between what the k words were and what is read back, what is left over counted as one word."""
    read = store.read(key.expand(TEXT), torch.arange(TEXT))
    back = torch.zeros(TEXT, VOCABULARY).scatter_add(1, read["indices"], read["probabilities"]).gather(1, values["indices"])
    kept, p = back > 0, values["probabilities"]
    rest, left = 1 - (p * kept).sum(1), read["tail"].clamp_min(1e-6)
    return (torch.where(kept, p * (p / back.clamp_min(1e-12)).log(), 0.0).sum(1) + rest * (rest.clamp_min(1e-9) / left).log()).clamp_min(0)


def seconds(store: LabelStore, keys: Tensor, places: Tensor) -> float:
    start = time.process_time()
    store.read(keys, places)
    return time.process_time() - start
