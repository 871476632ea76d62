"""Shapes, determinism, what is hidden stays hidden, and padding that changes nothing."""

from __future__ import annotations

import pytest
import torch

from tests.models.samples import BUILT_IN, CLASSES, every_second, inputs, modality, student
from understudy import models
from understudy.errors import UserError

NAMES = list(BUILT_IN)


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str) -> None:
    s, x = student(name), inputs(BUILT_IN[name])
    features = s.features(x)
    assert features.pooled.shape == (4, s.backbone.width)
    assert features.tokens.shape == (4, s.backbone.positions(x), s.backbone.token_width)
    assert s(x).shape == (4, len(CLASSES))
    assert (features.padding is None) == (name != "tiny-text")


@pytest.mark.parametrize(("size", "patch", "vit_patch"), [(8, 2, 2), (28, 4, 4), (32, 4, 4), (40, 4, 4), (64, 8, 8), (96, 8, 16)])
def test_a_token_covers_what_patch_says(size: int, patch: int, vit_patch: int) -> None:
    for name, expected in (("tiny-resnet", patch), ("tiny-vit", vit_patch)):
        backbone = student(name, size=size, channels=3).backbone
        x = inputs("image", 2, size=size, channels=3)
        assert backbone.patch == expected
        assert backbone(x).tokens.shape[1] == backbone.positions(x) == (size // expected) ** 2


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_a_function_of_its_key_and_leaves_the_global_generator_alone(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = student(name, 1), student(name, 1), student(name, 2)
    assert torch.equal(before, torch.get_rng_state())
    for (key, left), right, other in zip(a.state_dict().items(), b.state_dict().values(), c.state_dict().values(), strict=True):
        assert torch.equal(left, right), key
        if left.ndim > 1 and "places" not in key and left.numel():
            assert not torch.equal(left, other), key


@pytest.mark.parametrize("name", NAMES)
def test_with_head_reinitialised_and_clone(name: str) -> None:
    s, x = student(name), inputs(BUILT_IN[name])
    s(x).sum().backward()
    twin = s.clone()
    assert twin.modality is s.modality and all(p.grad is None for p in twin.parameters())
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert not torch.equal(next(twin.parameters()), next(s.parameters()))
    headed = s.with_head(("a", "b"), key=3)
    assert headed(x).shape == (4, 2) and headed.classes == ("a", "b")
    assert torch.equal(headed.head.weight, s.with_head(("a", "b"), key=3).head.weight)
    assert s.with_head((), key=3).head is None
    fresh, same = s.reinitialised(1), student(name, 1)
    assert all(torch.equal(p, q) for p, q in zip(fresh.state_dict().values(), same.state_dict().values(), strict=True))


def changed_where(kind: str, x: dict[str, torch.Tensor], hidden: torch.Tensor, patch: int) -> dict[str, torch.Tensor]:
    """Other content at hidden positions."""
    other = inputs(kind, len(hidden), seed=99)
    if kind == "image":
        side = 28 // patch
        grid = hidden.view(-1, 1, side, side).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        return {"pixels": torch.where(grid, other["pixels"], x["pixels"])}
    if kind == "text":
        return {**x, "tokens": torch.where(hidden & ~x["padding"], (x["tokens"] + 7) % 270 + 5, x["tokens"])}
    return {
        "numbers": torch.where(hidden[:, :3], other["numbers"], x["numbers"]),
        "absent": torch.where(hidden[:, :3], ~x["absent"], x["absent"]),
        "categories": torch.where(hidden[:, 3:], (x["categories"] + 1) % 3, x["categories"]),
    }


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_what_is_hidden_reaches_any_output(name: str, drop: bool) -> None:
    kind, s = BUILT_IN[name], student(name).train()
    x = inputs(kind)
    masked = every_second(s.backbone.positions(x))
    y = changed_where(kind, x, masked, s.backbone.patch)
    a, b = s.backbone(x, masked, drop), s.backbone(y, masked, drop)
    assert torch.equal(a.pooled, b.pooled) and torch.equal(a.tokens, b.tokens)
    assert not torch.allclose(s.backbone(x).pooled, s.backbone(y).pooled)
    assert not torch.allclose(s.backbone(x).pooled, a.pooled)


def test_dropping_is_encoding_only_what_is_visible() -> None:
    text = student("tiny-text").eval().backbone
    x = {"tokens": torch.randint(5, 280, (2, 8)), "padding": torch.zeros(2, 8, dtype=torch.bool)}
    masked = every_second(8, 2)
    dropped = text(x, masked, drop=True)
    content, places, _ = text.embed(x)
    alone = (content + places)[~masked].view(2, 4, -1)
    for block in text.blocks:
        alone = block(alone)
    assert dropped.padding is None
    torch.testing.assert_close(dropped.tokens, text.norm(alone), atol=1e-6, rtol=0)
    torch.testing.assert_close(dropped.pooled, text.norm(alone.mean(1)), atol=1e-6, rtol=0)


def test_samples_that_keep_different_numbers_are_padded_and_equal_themselves_alone() -> None:
    vit = student("tiny-vit").eval().backbone
    x = inputs("image", 2)
    masked = torch.zeros(2, 49, dtype=torch.bool)
    masked[0, :30], masked[1, 10:15] = True, True
    both = vit(x, masked, drop=True)
    assert both.tokens.shape[1] == 44 and both.padding.sum(1).tolist() == [25, 0]
    for i in range(2):
        alone = vit({"pixels": x["pixels"][i : i + 1]}, masked[i : i + 1], drop=True)
        torch.testing.assert_close(both.pooled[i : i + 1], alone.pooled, atol=1e-5, rtol=0)
        torch.testing.assert_close(both.tokens[i : i + 1, : alone.tokens.shape[1]], alone.tokens, atol=1e-5, rtol=0)


def test_padding_changes_nothing() -> None:
    s, x = student("tiny-text").eval(), inputs("text")
    together = s.features(x)
    for i, length in enumerate((10, 6, 10, 3)):
        alone = s.features({"tokens": x["tokens"][i : i + 1, :length], "padding": torch.zeros(1, length, dtype=torch.bool)})
        torch.testing.assert_close(together.pooled[i : i + 1], alone.pooled, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.tokens[i : i + 1, :length], alone.tokens, atol=1e-5, rtol=0)


def test_an_empty_text_has_finite_features_and_gradients() -> None:
    s = student("tiny-text")
    x = {"tokens": torch.zeros(2, 5, dtype=torch.int64), "padding": torch.tensor([[True] * 5, [False] * 3 + [True] * 2])}
    logits = s(x)
    logits.square().sum().backward()
    assert torch.isfinite(logits).all() and all(torch.isfinite(p.grad).all() for p in s.parameters() if p.grad is not None)


def test_a_vit_reads_other_sizes_through_the_same_positions() -> None:
    vit = student("tiny-vit").eval().backbone
    small = vit(inputs("image", 2, size=12))
    assert small.tokens.shape == (2, 9, 64)
    assert vit(inputs("image", 2, size=30)).tokens.shape == (2, 64, 64)
    with torch.no_grad():
        vit.places.copy_(torch.full_like(vit.places, 0.5))  # a constant must stay itself under interpolation
    _, places, _ = vit.embed(inputs("image", 2, size=12))
    torch.testing.assert_close(places, torch.full((9, 64), 0.5))


def test_grey_and_colour_are_exchanged() -> None:
    grey = inputs("image", 2)
    colour = {"pixels": grey["pixels"].expand(-1, 3, -1, -1)}
    for name in ("tiny-resnet", "tiny-vit"):
        s, t = student(name, channels=3).eval(), student(name, channels=1).eval()
        torch.testing.assert_close(s(grey), s(colour))
        torch.testing.assert_close(t(grey), t(colour))


def test_table_columns_are_told_apart_and_absent_is_not_zero() -> None:
    backbone = student("tiny-table").eval().backbone
    zero = {"numbers": torch.zeros(1, 3), "absent": torch.zeros(1, 3, dtype=torch.bool), "categories": torch.ones(1, 2, dtype=torch.int64)}
    content, _, _ = backbone.embed({**zero, "absent": torch.tensor([[True, False, False]])})
    assert content[0, 0].abs().sum() > 0 and content[0, 1].abs().sum() == 0
    assert not torch.equal(content[0, 3], content[0, 4])


@pytest.mark.parametrize(
    ("name", "kind", "options", "words"),
    [
        ("smal-resnet", "image", {}, "small-resnet"),
        ("small-text", "image", {}, "the data are image"),
        ("small-vit", "image", {"dept": 3}, "depth"),
        ("small-vit", "image", {"width": 30, "heads": 4}, "heads"),
        ("run:/nowhere", "image", {}, "no saved model"),
    ],
)
def test_mistakes_are_said(name: str, kind: str, options: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        models.build(name, modality(kind), CLASSES, 0, **options)


def test_a_mask_of_another_size_is_refused() -> None:
    for name in ("tiny-resnet", "tiny-vit"):
        with pytest.raises(ValueError, match="the mask covers 16 positions"):
            student(name).backbone(inputs("image"), every_second(16))


def test_no_classes_no_logits() -> None:
    s = models.build("tiny-resnet", modality("image"), (), 0)
    with pytest.raises(LookupError, match="with_head"):
        s(inputs("image"))


def test_drop_path_at_zero_is_the_plain_model_and_above_is_not() -> None:
    x = inputs("image")
    plain, dropping = student("tiny-vit").train(), student("tiny-vit", drop_path=0.5).train()
    assert torch.equal(plain(x), plain.eval()(x))
    assert not torch.equal(dropping(x), dropping.eval()(x))
    assert torch.equal(dropping(x), plain(x))


def test_drop_path_keeps_the_mean() -> None:
    from understudy.models.transformer import DropPath

    torch.manual_seed(0)
    out = DropPath(0.25)(torch.ones(20_000, 1, 1))
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
