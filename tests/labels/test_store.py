from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from understudy import keyed
from understudy.errors import UserError
from understudy.labels import Features, LabelStore, Soft, TopK, verify

VIEW = {"name": "augmented", "seed": 5, "options": {"scale": (0.1, 1.0)}}
NAMES = ("ant", "bee", "cat", "dog")


def store_at(folder: Path, **changes: Any) -> LabelStore:
    settings: dict[str, Any] = {"teacher": "t1", "data": "d1", "view": VIEW, "codec": Soft("float32"), "classes": NAMES, **changes}
    return LabelStore.create(folder, **settings)


def truth(keys: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return torch.softmax(keyed.normal(keyed.fold(keys, numbers), (4,)), 1)


def grid(samples: int, views: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys = keyed.of_texts([f"sample {i}" for i in range(samples)])
    return keys.repeat_interleave(views), torch.arange(views).repeat(samples)


def fill(store: LabelStore, keys: torch.Tensor, numbers: torch.Tensor, step: int = 7) -> None:
    for k, n in zip(keys.split(step), numbers.split(step), strict=True):
        store.append(k, n, {"probabilities": truth(k, n)})


def test_every_label_comes_back_from_any_shard_in_any_order(tmp_path: Path) -> None:
    keys, numbers = grid(40, 3)
    with store_at(tmp_path, shard_rows=16) as store:
        fill(store, keys, numbers)
    store = LabelStore.open(tmp_path)
    assert len(list(tmp_path.glob("shard-*"))) > 5
    assert (len(store), store.views) == (120, 3)
    order = keyed.permutation(1, 120)
    values = store.read(keys[order], numbers[order])
    assert torch.equal(values["probabilities"], truth(keys, numbers)[order])
    assert torch.equal(store.decode(store.read(keys[::3], 2)), truth(keys, numbers)[2::3])
    assert store.read(keys[:0], 0)["probabilities"].shape == (0, 4)
    found_keys, found_numbers = store.records()
    assert sorted(zip(found_keys.tolist(), found_numbers.tolist(), strict=True)) == sorted(zip(keys.tolist(), numbers.tolist(), strict=True))


def test_what_is_missing_is_counted_and_never_invented(tmp_path: Path) -> None:
    keys, numbers = grid(10, 2)
    with store_at(tmp_path) as store:
        fill(store, keys, numbers)
    stranger = keyed.of_texts(["stranger", "other"])
    assert not store.have(stranger, 0).any() and not store.have(keys, 2).any() and not store.have(keys, -1).any() and store.have(keys, numbers).all()
    with pytest.raises(LookupError, match="2 of 22"):
        store.read(torch.cat([keys, stranger]), 0)
    assert not store_at(tmp_path / "empty").have(keys, 0).any()


def test_the_later_label_wins(tmp_path: Path) -> None:
    key = keyed.of_texts(["a"])
    store = store_at(tmp_path)
    for winner in (2, 1):
        store.append(key, torch.tensor([0]), {"probabilities": torch.eye(4)[[winner]]})
    store.flush()
    assert store.decode(store.read(key, 0)).argmax() == 1
    store.append(key, torch.tensor([0]), {"probabilities": torch.eye(4)[[3]]})
    assert store.decode(store.read(key, 0)).argmax() == 1, "a buffered label is not yet read"
    store.flush()
    assert store.decode(store.read(key, 0)).argmax() == 3 and len(store) == 1
    assert LabelStore.open(tmp_path).decode(store.read(key, 0)).argmax() == 3


def test_two_writers_share_a_store(tmp_path: Path) -> None:
    keys, numbers = grid(20, 1)
    first, second = store_at(tmp_path, shard_rows=4), store_at(tmp_path, shard_rows=4)
    for half in (0, 10):
        fill(first, keys[half : half + 5], numbers[:5], 5)
        fill(second, keys[half + 5 : half + 10], numbers[:5], 5)
    assert LabelStore.open(tmp_path).have(keys, 0).all()


def test_anybody_can_read_a_shard(tmp_path: Path) -> None:
    with store_at(tmp_path) as store:
        fill(store, *grid(3, 1))
    (shard,) = tmp_path.glob("shard-*")
    assert set(safetensors.torch.load_file(shard)) == {"keys", "first", "count", "probabilities"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"teacher": "t2"}, "teacher t1.*teacher t2"),
        ({"data": "d2"}, "data d1.*data d2"),
        ({"view": {**VIEW, "seed": 6}}, "'seed': 5.*'seed': 6"),
        ({"view": {**VIEW, "name": "weak"}}, "'name': 'augmented'.*'name': 'weak'"),
        ({"view": {**VIEW, "options": {}}}, "scale.*'options': {}"),
        ({"codec": Soft()}, "float32.*float16"),
        ({"temperature": 2.0}, "temperature 1.0.*temperature 2.0"),
        ({"classes": ("bee", "ant", "cat", "dog")}, "ant.*bee.*bee.*ant"),
    ],
)
def test_another_teacher_data_set_view_or_codec_is_refused_naming_both(tmp_path: Path, change: Mapping[str, Any], says: str) -> None:
    store = store_at(tmp_path)
    store.require("t1", "d1", VIEW)
    with pytest.raises(UserError, match=says):
        store_at(tmp_path, **change)
    if set(change) <= {"teacher", "data", "view"}:
        with pytest.raises(UserError, match=says):
            store.require(**change)


def test_replace_starts_anew_and_orphans_are_nobodys(tmp_path: Path) -> None:
    with store_at(tmp_path) as store:
        fill(store, *grid(5, 1))
    assert len(store_at(tmp_path, teacher="t2", replace=True)) == 0
    with store_at(tmp_path, teacher="t2") as store:
        fill(store, *grid(5, 1))
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="without a manifest"):
        store_at(tmp_path)


def test_broken_folders_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no label store at"):
        LabelStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"teacher": 3}')
    with pytest.raises(UserError, match="teacher"):
        LabelStore.open(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="k=4"):
        store_at(tmp_path, codec=TopK(4))
    with pytest.raises(UserError, match="integer seed"):
        store_at(tmp_path, view={"name": "weak", "seed": "a"})
    with pytest.raises(UserError, match="4 numbers"), store_at(tmp_path / "width") as store:
        store.append(*grid(1, 1), {"probabilities": torch.ones(1, 3)})
    with store_at(tmp_path) as store:
        fill(store, *grid(3, 1))
    (shard,) = tmp_path.glob("shard-*")
    for damage in (b"", b"\x80\x04cos\nsystem\n", b"\xff" * 40, shard.read_bytes()[:-5]):
        shard.write_bytes(damage)
        with pytest.raises(UserError, match="cannot be read"):
            len(LabelStore.open(tmp_path))


def test_a_full_disk_loses_nothing_that_was_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(tmp_path)
    keys, numbers = grid(5, 1)
    fill(store, keys, numbers)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            store.flush()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json"]
    store.flush()
    assert store.have(keys, 0).all()


WRITER = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from test_store import *
store = store_at(Path(sys.argv[1]), shard_rows=64)
keys, numbers = grid(4000, 4)
todo = ~store.have(keys, numbers)
print(int(todo.sum()), flush=True)
fill(store, keys[todo], numbers[todo], 16)
"""


def test_killed_at_any_moment_every_standing_shard_is_whole(tmp_path: Path) -> None:
    left = []
    for stop in (3, 9):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        left.append(int(writer.stdout.readline()))
        while len(list(tmp_path.glob("shard-*"))) < stop:
            assert writer.poll() is None
            time.sleep(0.002)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        store = LabelStore.open(tmp_path)
        keys, numbers = store.records()
        shards = len(list(tmp_path.glob("shard-*")))
        assert len(keys) == 64 * shards >= 64 * stop
        assert torch.equal(store.decode(store.read(keys, numbers)), truth(keys, numbers))
    assert left[0] == 16000 > left[1] and left[1] % 64 == 0, "a restart goes on where the last one stood"


def test_a_file_left_half_written_is_neither_read_nor_kept_for_ever(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    half = tmp_path / ".shard-000000-x.safetensors.y.unfinished"
    half.write_bytes(b"half")
    assert len(store_at(tmp_path)) == 0 and half.exists(), "another writer may be at it"
    os.utime(half, (0, 0))
    store_at(tmp_path)
    assert not half.exists() and len(store) == 0


def test_slow_teachers_are_written_down_by_the_clock(tmp_path: Path) -> None:
    store = store_at(tmp_path, shard_seconds=0.0)
    keys, numbers = grid(1, 1)
    fill(store, keys, numbers)
    assert LabelStore.open(tmp_path).have(keys, numbers).all()


def test_verify_sees_a_teacher_that_changed(tmp_path: Path) -> None:
    keys, numbers = grid(100, 2)
    with store_at(tmp_path / "a", codec=TopK(2)) as store:
        fill(store, keys, numbers)
    same = verify(store, lambda k, n: {"probabilities": truth(k, n)}, count=50)
    assert (same.largest, same.mean, same.agreement) == (0.0, 0.0, 1.0) and 30 < same.checked <= 50
    other = verify(store, lambda k, n: {"probabilities": truth(k, n + 1)}, count=500)
    assert other.checked == 200 and other.largest > 0.1 and other.agreement is not None and other.agreement < 0.9
    with store_at(tmp_path / "b", codec=Features(4)) as store:
        store.append(keys, numbers, {"pooled": truth(keys, numbers)})
    assert verify(store, lambda k, n: {"pooled": truth(k, n) + 0.5}).mean == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(UserError, match="empty"):
        verify(store_at(tmp_path / "c"), lambda k, n: {})
