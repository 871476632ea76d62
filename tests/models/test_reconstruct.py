"""Decoders: their loss by hand, only on what is hidden, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.samples import BUILT_IN, every_second, inputs, masked_view, student
from understudy.errors import UserError
from understudy.models.reconstruct import decoder_for

CASES = [(name, drop) for name in BUILT_IN for drop in (False, True) if not (name in ("tiny-resnet", "tiny-convnet") and drop)]


@pytest.mark.parametrize(("name", "drop"), CASES)
def test_a_loss_for_each_sample_that_falls_when_trained(name: str, drop: bool) -> None:
    s, x = student(name), inputs(BUILT_IN[name])
    masked = every_second(s.backbone.positions(x))
    if "padding" in x:
        masked &= ~x["padding"]
    view = masked_view(x, masked)
    decoder = decoder_for(s.backbone, key=3, dropped=drop)
    again = decoder_for(s.backbone, key=3, dropped=drop).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in decoder.state_dict().items())
    optimizer = torch.optim.AdamW([*s.backbone.parameters(), *decoder.parameters()], lr=3e-3)
    losses = []
    for _ in range(25):
        loss = decoder(s.backbone(x, masked, drop), view)
        assert loss.shape == (4,)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        losses.append(loss.mean().item())
    assert losses[-1] < 0.8 * losses[0]


def test_pixel_loss_by_hand() -> None:
    s, x = student("tiny-resnet", channels=3), inputs("image", channels=3)
    masked = every_second(49)
    masked[0] = False
    masked[0, 7] = True
    decoder = decoder_for(s.backbone, key=0)
    tokens = s.backbone(x, masked).tokens
    loss = decoder(s.backbone(x, masked), masked_view(x, masked))
    guess = (tokens @ decoder.head.weight.T + decoder.head.bias).detach().double().numpy()[0, 7]
    patch = x["pixels"][0, :, 4:8, 0:4].permute(1, 2, 0).double().numpy().ravel()
    target = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
    assert loss[0].item() == pytest.approx(np.mean((guess - target) ** 2), rel=2e-3)


@pytest.mark.parametrize(("name", "drop"), CASES)
def test_visible_targets_do_not_count(name: str, drop: bool) -> None:
    kind, s = BUILT_IN[name], student(name).eval()
    x = inputs(kind)
    masked = every_second(s.backbone.positions(x))
    decoder = decoder_for(s.backbone, key=3, dropped=drop).eval()
    features = s.backbone(x, masked, drop)
    from tests.models.test_backbones import changed_where

    visible_changed = changed_where(kind, x, ~masked, s.backbone.patch)
    hidden_changed = changed_where(kind, x, masked, s.backbone.patch)
    loss = decoder(features, masked_view(x, masked))
    assert torch.equal(loss, decoder(features, masked_view(visible_changed, masked)))
    assert not torch.equal(loss, decoder(features, masked_view(hidden_changed, masked)))


def test_padding_does_not_change_a_masked_token_loss() -> None:
    s, x = student("tiny-text").eval(), inputs("text")
    masked = every_second(10) & ~x["padding"]
    for drop in (False, True):
        decoder = decoder_for(s.backbone, key=3, dropped=drop).eval()
        loss = decoder(s.backbone(x, masked, drop), masked_view(x, masked))
        for i, length in enumerate((10, 6, 10, 3)):
            one = {"tokens": x["tokens"][i : i + 1, :length], "padding": torch.zeros(1, length, dtype=torch.bool)}
            alone = decoder(s.backbone(one, masked[i : i + 1, :length], drop), masked_view(one, masked[i : i + 1, :length]))
            torch.testing.assert_close(loss[i : i + 1], alone, atol=1e-5, rtol=1e-5)


def test_absent_and_unknown_cells_are_no_targets() -> None:
    s, x = student("tiny-table").eval(), inputs("table")
    decoder = decoder_for(s.backbone, key=1)
    masked = torch.ones(4, 5, dtype=torch.bool)
    x = {**x, "absent": torch.ones(4, 3, dtype=torch.bool), "categories": torch.zeros(4, 2, dtype=torch.int64)}
    assert decoder(s.backbone(x, masked), masked_view(x, masked)).tolist() == [0.0] * 4


def test_what_can_not_be_dropped_is_said() -> None:
    with pytest.raises(UserError, match="small-vit"):
        decoder_for(student("tiny-resnet").backbone, key=0, dropped=True)
    s, x = student("tiny-vit"), inputs("image")
    with pytest.raises(ValueError, match="hides nothing"):
        decoder_for(s.backbone, key=0)(s.features(x), masked_view(x, None))
