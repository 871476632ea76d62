from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from understudy import keyed
from understudy.errors import UserError
from understudy.labels import LabelStore, Soft, mapped
from understudy.labels import store as stores
from understudy.labels.index import Runs, grouped, ranges

NAMES = ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize("seed", range(5))
def test_runs_find_what_a_dictionary_finds(seed: int) -> None:
    """Shards whose labels come in any order, some twice, some in a later shard again."""
    draw = np.random.default_rng(seed)
    parts, truth, start = [], {}, 0
    for _ in range(4):
        keys, numbers = draw.integers(-30, 30, 200) * (1 << 57), draw.integers(0, 7, 200)
        order, runs = grouped(keys, numbers)
        for row, (key, number) in enumerate(zip(keys[order].tolist(), numbers[order].tolist(), strict=True)):
            truth[key, number] = start + row
        for pair in set(zip(keys.tolist(), numbers.tolist(), strict=True)):
            newest = max(i for i in range(200) if (keys[i], numbers[i]) == pair)
            assert newest in order, "of labels written twice the last stays"
        parts.append(Runs(runs.keys, runs.first, runs.count, runs.row + start))
        start += len(order)
    runs = Runs.joined(parts)
    asked = np.array([(key * (1 << 57), number) for key in range(-31, 31) for number in range(-1, 8)])
    begins = [np.append(np.searchsorted(ranges(runs.keys, many), np.arange(many)), len(runs.keys)) for many in (2, 16, 256)]
    for known in (None, *begins):
        rows, found = replace(runs, begins=known).find(asked[:, 0], asked[:, 1])
        for (key, number), row, there in zip(asked.tolist(), rows.tolist(), found.tolist(), strict=True):
            assert there == ((key, number) in truth) and (not there or row == truth[key, number])
    assert runs.labels() == len(truth) and runs.span == 7
    assert list(zip(*(column.tolist() for column in runs.pairs()), strict=True)) == sorted(truth)


def test_the_index_costs_bytes_a_sample_and_not_a_label(tmp_path: Path) -> None:
    sizes = {}
    for views in (1, 64):
        with LabelStore.create(tmp_path / str(views), teacher="t", data="d", view={"name": "weak"}, codec=Soft("float32"), classes=NAMES) as store:
            keys = keyed.of_texts([f"sample {i}" for i in range(200)])
            for number in range(views):
                store.append(keys, torch.full((200,), number), {"probabilities": torch.full((200, 4), 0.25)})
        (shard,) = (tmp_path / str(views)).glob("shard-*")
        sizes[views] = sum(column.nbytes for name, column in safetensors.numpy.load_file(shard).items() if name != "probabilities")
    assert sizes[1] == sizes[64] == 200 * 8 + 8


def test_a_store_of_format_1_is_read_and_not_gone_on_with(tmp_path: Path) -> None:
    """Key and number stood beside every label, in the order they were written in."""
    settings = {"teacher": "t", "data": "d", "view": {"name": "weak"}, "codec": Soft("float32"), "classes": NAMES}
    LabelStore.create(tmp_path, **settings)  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["tokenizer"]
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    keys, numbers = keyed.of_texts([f"sample {i % 10}" for i in range(30)]), torch.arange(30) // 10
    said = torch.softmax(keyed.normal(keyed.fold(keys, numbers), (4,)), 1)
    for part, shard in ((slice(0, 17), "shard-000000-a"), (slice(17, 30), "shard-000001-b")):
        fields = {"keys": keys[part].numpy(), "numbers": numbers[part].numpy().astype(np.int32), "probabilities": said[part].numpy()}
        safetensors.numpy.save_file(fields, tmp_path / f"{shard}.safetensors")
    store = LabelStore.open(tmp_path)
    assert (len(store), store.views) == (30, 3)
    assert torch.equal(store.decode(store.read(keys.flip(0), numbers.flip(0))), said.flip(0))
    with pytest.raises(UserError, match="format 1, and these have format 2: choose another folder"):
        LabelStore.create(tmp_path, **settings)  # type: ignore[arg-type]
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 3}))
    with pytest.raises(UserError, match="format 3 and this version of understudy reads formats 1 to 2"):
        LabelStore.open(tmp_path)


@pytest.mark.parametrize("parts", [1, 9])
def test_the_mapped_index_says_what_the_one_in_memory_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Several shards, labels written again later, samples with different numbers of labels; and shards added after the file was made."""
    monkeypatch.setattr(mapped, "_PART", 300 // parts)
    keys = keyed.of_texts([f"sample {i}" for i in range(100)])
    settings = {"teacher": "t", "data": "d", "view": {"name": "weak"}, "codec": Soft("float32"), "classes": NAMES, "shard_rows": 150}
    asked, numbers = keys.repeat_interleave(5), torch.arange(5).repeat(100)
    for added in (0, 1):
        with LabelStore.create(tmp_path, **settings) as store:  # type: ignore[arg-type]
            for number in range(3):
                some = keys[added :: number + 1]
                said = torch.softmax(keyed.normal(keyed.fold(some, number, added), (4,)), 1)
                store.append(some, torch.full((len(some),), number), {"probabilities": said})
        held = LabelStore.open(tmp_path)
        have = held.have(asked, numbers)
        with monkeypatch.context() as patch:
            patch.setattr(stores, "_HELD", 10)
            for _ in range(2):
                kept = LabelStore.open(tmp_path)
                assert torch.equal(kept.have(asked, numbers), have) and (len(kept), kept.views) == (len(held), held.views)
                assert torch.equal(kept.read(asked[have], numbers[have])["probabilities"], held.read(asked[have], numbers[have])["probabilities"])
                assert len(list(tmp_path.glob("index-*.bin"))) == len(list(tmp_path.glob("index-*.json"))) == 1
                assert not list(tmp_path.glob(".*"))
