"""Stored soft labels of 1,000 classes, k = 5: bytes a crop on disk, and nanoseconds to have it back.

The peer is the layout of FKD (2112.01528): one ``torch.save`` for each image, with float16 boxes and values, int16 classes and a flip for each of its crops. Here the crop costs
nothing, since views follow from keys. ``decode`` unpacks whole shards; ``read`` looks 4,096 labels up in random order, index and mapped files included.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench import Line, line
from understudy import keyed
from understudy.labels import LabelStore, Packed, shards

CLASSES, K = 1000, 5


def measure(part: str, quick: bool) -> Iterator[Line]:
    torch.set_num_threads(1)
    samples, views, repeats = (50, 500, 5) if quick else (400, 500, 15)
    with tempfile.TemporaryDirectory() as folder:
        store, keys = filled(Path(folder) / "ours", samples, views)
        theirs = fkd(Path(folder) / "theirs", store, keys, views)
        labels = samples * views
        ours_bytes, their_bytes = (sum(f.stat().st_size for f in where.glob("*") if f.suffix != ".json") / labels for where in (store.folder, theirs[0].parent))
        if part in ("", "size"):
            yield line("stored/size", [ours_bytes], f"bytes a crop, {views} crops each", 12, f"FKD's layout: {their_bytes:.1f} bytes", "float16")
            where = Path(folder) / "one"
            single, _ = filled(where, samples, 1)
            yield line("stored/size-one-view", [sum(f.stat().st_size for f in single.folder.glob("shard-*")) / samples], "bytes a label, 1 view each", 20)
        mapped = [shards.mapped(path)["packed"] for path in sorted(store.folder.glob("shard-*"))]

        def decode() -> None:
            for packed in mapped:
                store.codec.unpack({"packed": packed})

        def peer() -> None:
            for path in theirs[:: max(1, samples // 100)]:
                boxes, flips, indices, values = torch.load(path, weights_only=True)
                indices.long(), values.float()

        shown = len(theirs[:: max(1, samples // 100)]) * views
        order = [keyed.permutation(i, labels)[:4096] for i in range(repeats)]
        wanted = iter(order)

        def read() -> None:
            chosen = next(wanted)
            store.read(keys[chosen // views], chosen % views)

        if part in ("", "decode", "fkd"):
            decode()
            peer()
            times = [(seconds(decode) / labels, seconds(peer) / shown) for _ in range(repeats)]
            yield line("stored/decode", [1e9 * ours for ours, _ in times], "ns a label", 200)
            yield line("stored/fkd", [ours / other for ours, other in times], "x torch.load of FKD's layout", 1, "FKD's layout", torch.__version__)
        if part in ("", "read"):
            store.read(keys[:64], 0)
            yield line("stored/read", [1e9 * seconds(read) / 4096 for _ in range(repeats)], "ns a label, random order", 1000)


def filled(folder: Path, samples: int, views: int) -> tuple[LabelStore, torch.Tensor]:
    """A store of sharp soft labels."""
    keys = keyed.of_texts([f"image {i}" for i in range(samples)])
    view = {"name": "crop", "seed": 0, "options": {"scale": [0.08, 1.0]}}
    with LabelStore.create(folder, teacher="t", data="d", view=view, codec=Packed(K), classes=tuple(map(str, range(CLASSES)))) as store:
        for part in torch.arange(samples).split(50):
            for number in range(views):
                said = torch.softmax(3 * torch.randn(len(part), CLASSES, generator=keyed.generator(number)), 1)
                store.append(keys[part], torch.full((len(part),), number), {"probabilities": said})
    return LabelStore.open(folder), keys


def fkd(folder: Path, store: LabelStore, keys: torch.Tensor, views: int) -> list[Path]:
    """The same labels as FKD keeps them."""
    folder.mkdir()
    paths = []
    for i, key in enumerate(keys):
        values = store.read(key.repeat(views), torch.arange(views))
        paths.append(folder / f"{i}.tar")
        boxes, flips = torch.rand(views, 4).half(), torch.zeros(views, dtype=torch.bool)
        torch.save((boxes, flips, values["indices"].short(), values["probabilities"].half()), paths[-1])
    return paths


def seconds(what: Callable[[], Any]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start
