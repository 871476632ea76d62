"""A label store as it grows: 10 labels for each of 10^4 to 10^8 samples. Only the index is real; the labels themselves are holes in sparse files.

Start-up is opening the store and looking the first label up, in a fresh process, the index file being there (``index/making`` is the time it takes to make it, once). Memory is what the
process then holds for itself, mapped files not counted, over what it held before. A lookup is one of 4,096 in random order.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from bench import Line, line
from understudy import keyed
from understudy.labels import LabelStore, Packed

VIEWS, IN_SHARD = 10, 100_000

ASK = """
import json, sys, time, torch
from understudy import keyed
from understudy.labels import LabelStore
def held():
    return sum(int(row.split()[1]) for row in open("/proc/self/status") if row.startswith("RssAnon")) / 1024
folder, samples = sys.argv[1], int(sys.argv[2])
before, start = held(), time.perf_counter()
store = LabelStore.open(folder)
store.have(keyed.bits(torch.tensor([0])), 0)
opened = time.perf_counter() - start
times = []
for repeat in range(20):
    asked = keyed.bits(keyed.integers(repeat, samples, (4096,)))
    start = time.perf_counter()
    assert store.have(asked, repeat % 10).all() and not store.have(asked[:1] + 1, 0).any()
    times.append((time.perf_counter() - start) / 4096)
print(json.dumps([opened, held() - before, times[5:], len(store)]))
"""


def measure(part: str, quick: bool) -> Iterator[Line]:
    for power in (4, 6) if quick else (4, 5, 6, 7, 8):
        if part not in ("", f"1e{power}"):
            continue
        with tempfile.TemporaryDirectory() as folder:
            samples = 10**power
            simulate(Path(folder), samples)
            start = time.perf_counter()
            LabelStore.open(folder).have(torch.zeros(1, dtype=torch.int64), 0)
            making = time.perf_counter() - start
            said = subprocess.run([sys.executable, "-c", ASK, folder, str(samples)], capture_output=True, text=True, check=True).stdout
            opened, memory, times, labels = json.loads(said)
            assert labels == samples * VIEWS
            yield line(f"index/1e{power}-making", [making], f"s, once, {labels:,} labels", 600)
            yield line(f"index/1e{power}-start", [opened], "s", 5)
            yield line(f"index/1e{power}-memory", [memory], "MB held", 256)
            yield line(f"index/1e{power}-lookup", [1e6 * t for t in times], "us a lookup", 5)


def simulate(folder: Path, samples: int) -> None:
    """Shards as the store would have written them, but for the labels, of which there is only the size."""
    classes = tuple(map(str, range(1000)))
    store = LabelStore.create(folder, teacher="t", data="d", view={"name": "crop", "seed": 0, "options": {}}, codec=Packed(5), classes=classes)
    for number, start in enumerate(range(0, samples, IN_SHARD)):
        keys = keyed.bits(torch.arange(start, min(start + IN_SHARD, samples))).numpy()
        keys.sort()
        columns = {"keys": keys, "first": np.zeros(1, np.int32), "count": np.full(1, VIEWS, np.int32)}
        width = store.codec.size(len(classes)) * VIEWS * len(keys)
        header, at = {}, 0
        for name, kind, shape, size in (
            *((n, {8: "I64", 4: "I32"}[c.itemsize], [len(c)], c.nbytes) for n, c in columns.items()),
            ("packed", "U8", [VIEWS * len(keys), 11], width),
        ):
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
            at += size
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        with open(folder / f"shard-{number:06d}-0.safetensors", "wb") as file:
            file.write(len(head).to_bytes(8, "little") + head + b"".join(c.tobytes() for c in columns.values()))
            file.truncate(8 + len(head) + at)
