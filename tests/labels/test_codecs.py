from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy import keyed
from understudy.errors import UserError
from understudy.labels import Codec, Features, Hard, Packed, Soft, TopK, codec


def answers(count: int, classes: int, sharpness: float = 3.0) -> torch.Tensor:
    return torch.softmax(sharpness * keyed.normal(keyed.of_text(f"{count} {classes}"), (count, classes)), 1)


def through(kind: Codec, values: dict[str, torch.Tensor], classes: int) -> dict[str, torch.Tensor]:
    return kind.unpack(kind.pack(values, classes))


@pytest.mark.parametrize(
    ("kind", "classes", "size"),
    [
        (Hard(), 12, 8),
        (Soft(), 12, 24),
        (Soft("float32"), 12, 48),
        (TopK(3), 12, 10),
        (TopK(), 1000, 16),
        (TopK(5, 16), 70000, 32),
        (Packed(), 1000, 11),
        (Packed(8), 256, 16),
        (Packed(2), 3, 3),
        (Features(7), 0, 14),
    ],
)
def test_size_is_what_is_written(kind: Codec, classes: int, size: int) -> None:
    fields = kind.pack({"probabilities": answers(4, classes), "pooled": torch.zeros(4, 7)}, classes)
    assert {name: (column.dtype.type, column.shape[1:]) for name, column in fields.items()} == kind.layout(classes)
    assert sum(column.nbytes for column in fields.values()) == 4 * kind.size(classes) == 4 * size
    assert codec(**kind.describe()) == kind


def test_float32_keeps_the_bits_and_float16_its_bound() -> None:
    p = answers(500, 30)
    assert torch.equal(through(Soft("float32"), {"probabilities": p}, 30)["probabilities"], p)
    half = Soft()
    off = (through(half, {"probabilities": p}, 30)["probabilities"] - p).abs()
    assert 0 < off.max() <= half.error()
    assert (off <= torch.maximum(p * 2**-11, torch.tensor(2.0**-25))).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("sharpness", [0.3, 2.0, 8.0, 40.0])
def test_topk_stays_within_its_bound(bits: int, sharpness: float) -> None:
    kind = TopK(5, bits)  # type: ignore[arg-type]
    p = answers(2000, 50, sharpness).double()
    read = through(kind, {"probabilities": p}, 50)
    top, indices = p.topk(5)
    tail = 1 - top.sum(1)
    assert (read["probabilities"] - top).abs().max() <= kind.error()
    assert (read["tail"] - tail).abs().max() <= kind.error()
    assert torch.allclose(read["probabilities"].sum(1) + read["tail"], torch.ones(2000))
    ranked = p.topk(6).values
    distinct = (ranked[:, :-1] > ranked[:, 1:]).all(1)
    assert torch.equal(read["indices"][distinct], indices[distinct])
    seen = top > np.exp(-kind.reach) * 2
    assert ((read["probabilities"].double()[seen].log() - top[seen].log()).abs() <= kind.step + 1e-4).all()


@pytest.mark.parametrize(("k", "classes"), [(5, 1000), (5, 4096), (8, 256), (1, 3), (2, 3), (6, 1000), (4, 20000)])
@pytest.mark.parametrize("sharpness", [0.01, 2.0, 40.0])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_packed_labels_stay_within_their_bound(k: int, classes: int, sharpness: float, kind: torch.dtype) -> None:
    packed = Packed(k)
    count = max(8, 30000 // classes)
    p = answers(count, classes, sharpness).to(kind)
    read = through(packed, {"probabilities": p}, classes)
    p = p.double() / p.double().sum(1, keepdim=True)
    top = p.gather(1, read["indices"])
    assert torch.equal(top, p.topk(k).values), "the k largest, in order"
    assert (read["probabilities"] - top).abs().max() <= packed.error()
    assert (read["tail"] - (1 - top.sum(1))).abs().max() <= packed.error()
    assert torch.allclose(read["probabilities"].sum(1) + read["tail"], torch.ones(count))
    seen = top > top[:, :1] * np.exp(-10.0)
    ratio = (read["probabilities"].double() / read["probabilities"][:, :1].double() / (top / top[:, :1])).log()
    assert ratio[seen].abs().max() <= 5 / 191 + 1e-5
    assert (packed.decode(read, classes) - p).abs().gather(1, read["indices"]).max() <= packed.error() + 1e-6


def test_what_packed_labels_cannot_hold_is_refused() -> None:
    with pytest.raises(UserError, match="k=5 of 5000 does not: use topk"):
        Packed().layout(5000)
    assert Packed.holds(8, 256) and not Packed.holds(8, 257) and not Packed.holds(9, 20) and not Packed.holds(4, 4)


def test_where_the_tail_goes() -> None:
    kind = TopK(3, 16)
    p = answers(100, 10)
    values = through(kind, {"probabilities": p}, 10)
    top, indices = p.topk(3)
    rest = 1 - top.sum(1, keepdim=True)
    expected = {
        "uniform": (rest / 7).expand(-1, 10).scatter(1, indices, top),
        "zero": torch.zeros(100, 10).scatter(1, indices, top / top.sum(1, keepdim=True)),
    }
    for tail, want in expected.items():
        assert torch.allclose(kind.decode(values, 10, tail), want, atol=kind.error() * 3), tail  # type: ignore[arg-type]
    with pytest.raises(UserError, match="sideways"):
        kind.decode(values, 10, "sideways")  # type: ignore[arg-type]


def test_a_certain_teacher_and_a_silent_one_come_back_exactly() -> None:
    p = torch.zeros(2, 6)
    p[0, 4] = 1.0
    for kind in (TopK(2), Packed(2), Soft(), Hard()):
        assert torch.equal(kind.decode(through(kind, {"probabilities": p}, 6), 6), p), kind


def test_hard_labels() -> None:
    kind = Hard()
    said = {"label": torch.tensor([2, -1, 0]), "confidence": torch.tensor([0.7, 0.0, float("nan")])}
    values = through(kind, said, 4)
    assert torch.equal(values["label"], said["label"])
    assert torch.allclose(kind.decode(values, 4), torch.tensor([[0.1, 0.1, 0.7, 0.1], [0, 0, 0, 0], [1, 0, 0, 0]]))
    assert torch.equal(kind.decode(values, 4, "zero")[0], torch.tensor([0.0, 0, 1, 0]))
    assert through(kind, {"label": torch.tensor([1])}, 4)["confidence"].isnan().all()


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (Soft(), {"probabilities": torch.full((2, 3), float("nan"))}, "2 of 2"),
        (Soft(), {"probabilities": torch.ones(2, 4)}, r"\[2, 4\]"),
        (Soft(), {"pooled": torch.ones(2, 3)}, "pooled"),
        (Hard(), {"label": torch.tensor([3])}, "0 to 2"),
        (Features(2), {"pooled": torch.full((1, 2), 1e5)}, "65504"),
    ],
)
def test_what_cannot_be_stored_is_refused(kind: Codec, values: dict[str, torch.Tensor], says: str) -> None:
    with pytest.raises(UserError, match=says):
        kind.pack(values, 3)


def test_wrong_codecs_are_refused() -> None:
    with pytest.raises(UserError, match="k=10"):
        TopK(10).layout(10)
    with pytest.raises(UserError, match="zip"):
        codec("zip")
    with pytest.raises(UserError, match="colour"):
        codec("soft", colour=1)
    with pytest.raises(UserError, match="no class probabilities"):
        Features(3).decode({"pooled": torch.ones(1, 3)}, 0)
