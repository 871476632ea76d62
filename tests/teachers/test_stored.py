from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from understudy import keyed, models
from understudy.data.modalities.image import ImageModality
from understudy.data.samples import Batch, InMemory, Samples, View
from understudy.errors import UserError
from understudy.labels import Codec, Features, Hard, LabelStore, Packed, Soft, TopK, verify
from understudy.teachers import Frozen, Signals, Stored, Teacher, label, relabel, store_for

CLASSES = ("ant", "bee", "cat")
VIEW = {"name": "crop", "seed": 11, "options": {"scale": [0.2, 1.0]}}


def samples(count: int = 12, seed: str = "image") -> Samples:
    names = tuple(f"{seed} {i}" for i in range(count))
    pixels = keyed.integers(keyed.of_texts(names), 256, (1, 12, 12)).to(torch.uint8)
    return Samples(ImageModality(size=12, channels=1), InMemory({"image": pixels}), names, torch.full((count,), -1), CLASSES)


def teacher(key: int = 0) -> Frozen:
    student = models.build("tiny-resnet", samples(1).modality, CLASSES, key)
    assert student.head is not None
    torch.nn.init.normal_(student.head.weight, generator=keyed.generator(key))
    return Frozen(student)


def labelled(folder: Path, codec: Codec, views: int = 3, **options: Any) -> tuple[Frozen, Samples, Stored]:
    live, data = teacher(), samples()
    store = store_for(folder, live, data, codec, view=VIEW, **options)
    assert label(live, data, store, views=views, batch=4) == 12 * views
    return live, data, Stored(folder)


def logits(signals: Signals) -> Tensor:
    assert signals.logits is not None
    return signals.logits


@pytest.mark.parametrize(
    ("codec", "bound"),
    [(Soft("float32"), 0.0), (Soft(), Soft().error()), (TopK(2, 16), TopK(2, 16).error()), (TopK(2), TopK(2).error()), (Packed(2), Packed(2).error())],
)
def test_stored_labels_are_the_teachers_on_the_replayed_view(tmp_path: Path, codec: Codec, bound: float) -> None:
    live, data, stored = labelled(tmp_path, codec)
    for batch in data.batches(4):
        for number in range(3):
            view = stored.replay(batch, number)
            said, fresh = stored(batch, view), live(batch, view).soft()
            assert said.probabilities is not None
            off = (said.probabilities - fresh).abs().max()
            assert off <= bound and (bound > 0 or torch.equal(said.probabilities, fresh))
    assert stored.fingerprint == live.fingerprint and stored.classes == CLASSES


def test_every_sample_may_replay_another_of_its_views(tmp_path: Path) -> None:
    live, data, stored = labelled(tmp_path, Soft("float32"))
    batch = data.batch(torch.tensor([7, 0, 5, 2]), key=99, step=4)
    numbers = torch.tensor([2, 0, 1, 2])
    view = stored.replay(batch, numbers)
    assert torch.equal(stored.store.numbers(view, batch.keys), numbers)
    assert torch.allclose(stored(batch, view).soft(), live(batch, view).soft(), atol=1e-6)
    assert not torch.allclose(stored(batch, view).soft(), live(batch, stored.replay(batch, 1)).soft(), atol=1e-3)


def test_another_view_is_refused(tmp_path: Path) -> None:
    _, data, stored = labelled(tmp_path, Soft())
    batch = next(iter(data.batches(4)))
    right = stored.replay(batch, 0)
    wrong = {
        "a view of the step": batch.view("crop", scale=(0.2, 1.0)),
        "another kind": batch.view("plain"),
        "another seed": batch.replayed("crop", 12, 0, scale=(0.2, 1.0)),
        "a number never labelled": stored.replay(batch, 3),
        "another kind with the same keys": View("weak", right.inputs, right.keys),
        "others' views": View("crop", right.inputs, right.keys.flip(0)),
    }
    for why, view in wrong.items():
        with pytest.raises(UserError, match="none of them"):
            stored(batch, view)
            pytest.fail(why)


def test_another_teacher_other_data_and_other_classes_are_refused(tmp_path: Path) -> None:
    live, data, _ = labelled(tmp_path, Soft())
    Stored(tmp_path, teacher=live.fingerprint, data=data.fingerprint, classes=CLASSES)
    with pytest.raises(UserError, match=f"teacher {live.fingerprint}"):
        Stored(tmp_path, teacher=teacher(1).fingerprint)
    with pytest.raises(UserError, match=f"data {data.fingerprint}"):
        Stored(tmp_path, data=samples(11).fingerprint)
    with pytest.raises(UserError, match="ant, bee, cat.*bee, ant, cat"):
        Teacher.of(f"labels:{tmp_path}", classes=("bee", "ant", "cat"))
    with pytest.raises(UserError, match="teacher"):
        label(teacher(1), data, LabelStore.open(tmp_path))
    strangers = samples(3, "stranger").batch(torch.arange(3))
    with pytest.raises(UserError, match="3 of 3.*finish labelling"):
        stored = Stored(tmp_path)
        stored(strangers, stored.replay(strangers, 0))


def test_any_plain_view_is_the_plain_view(tmp_path: Path) -> None:
    live, data = teacher(), samples()
    with store_for(tmp_path, live, data, Soft("float32")) as store:
        label(live, data, store)
    batch = data.batch(torch.arange(12), key=5, step=8)
    assert torch.allclose(Stored(tmp_path)(batch, batch.view("plain")).soft(), live(batch, batch.view("plain")).soft(), atol=1e-6)


def test_temperature_is_kept(tmp_path: Path) -> None:
    live, data, stored = labelled(tmp_path, Soft("float32"), temperature=4.0)
    batch = data.batch(torch.arange(4))
    view = stored.replay(batch, 0)
    z = logits(live(batch, view))
    assert torch.allclose(stored(batch, view).soft(4.0), (z / 4).softmax(1), atol=1e-6)
    assert torch.allclose(stored(batch, view).soft(1.0), z.softmax(1), atol=1e-4)


def test_hard_labels_and_features(tmp_path: Path) -> None:
    live, data, stored = labelled(tmp_path / "hard", Hard())
    batch = data.batch(torch.arange(4))
    view = stored.replay(batch, 1)
    said, fresh = stored(batch, view).hard(), live(batch, view).hard()
    assert torch.equal(said[0], fresh[0]) and torch.equal(said[1], fresh[1])
    pooled = live(batch, view).pooled
    assert pooled is not None
    _, _, stored = labelled(tmp_path / "features", Features(pooled.shape[1]))
    kept = stored(batch, view).pooled
    assert kept is not None and torch.allclose(kept, pooled, rtol=2**-11, atol=1e-6)
    assert stored.offers == {"pooled"}


def test_labelling_goes_on_where_it_stopped(tmp_path: Path) -> None:
    asked = []

    class Counted(Frozen):
        def answer(self, batch: Batch, view: View) -> Signals:
            asked.append(len(batch))
            return super().answer(batch, view)

    data, live = samples(), Counted(teacher().model)
    store = store_for(tmp_path, live, data, Soft(), view=VIEW)
    assert label(live, data.take(torch.arange(8)), store, views=2, batch=4) == 16
    seen: list[int] = []
    assert label(live, data, store_for(tmp_path, live, data, Soft(), view=VIEW), views=3, batch=4, progress=seen.append) == 20
    assert sum(asked) == 36 == sum(seen) == len(LabelStore.open(tmp_path))


def test_verify_asks_the_teacher_again(tmp_path: Path) -> None:
    live, data, stored = labelled(tmp_path, TopK(2))
    same = verify(stored.store, relabel(live, data, stored.store, batch=5))
    assert same.checked == 36 and same.agreement == 1.0 and same.largest < 0.02 and same.mean < 1e-4
    other = verify(stored.store, relabel(teacher(1), data, stored.store))
    assert other.largest > 0.1 and other.mean > 0.05
    with pytest.raises(UserError, match="not in the data given"):
        verify(stored.store, relabel(live, samples(5), stored.store))


def test_a_codec_that_the_teacher_cannot_fill_is_refused(tmp_path: Path) -> None:
    data = samples(2)
    mute = Frozen(models.build("tiny-resnet", data.modality, (), 0))
    with pytest.raises(UserError, match="gives none"):
        label(mute, data, store_for(tmp_path, mute, data, Soft()))
