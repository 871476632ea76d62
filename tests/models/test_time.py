"""Backbones of series and sounds: what is hidden stays hidden, what is not there does not matter, and decoders by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.samples import every_second
from understudy import models
from understudy.data.modalities.audio import AudioModality
from understudy.data.modalities.series import SeriesModality
from understudy.data.samples import Inputs, View
from understudy.models import Student
from understudy.models.reconstruct import decoder_for

CLASSES = ("left", "right")
STEPS = torch.tensor([22, 13, 22, 7])


def student(kind: str, channels: int = 3, **options: object) -> Student:
    modality = SeriesModality([f"c{i}" for i in range(channels)], 22) if kind == "series" else AudioModality(8000, 22, mels=channels)
    return models.build("tiny-series" if kind == "series" else "tiny-ast", modality, CLASSES, 1, **options)


def inputs(kind: str, seed: int = 0, channels: int = 3) -> Inputs:
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(4, channels, 22, generator=g) * torch.tensor([1.0, 3.0, 0.2]).repeat(channels)[:channels, None] + 0.5
    values = values.masked_fill((torch.arange(22) >= STEPS.unsqueeze(1)).unsqueeze(1), 0.0)
    return {"series" if kind == "series" else "spectrogram": values, "steps": STEPS}


def values_of(x: Inputs) -> torch.Tensor:
    return next(v for name, v in x.items() if name != "steps")


def changed(x: Inputs, where: torch.Tensor) -> Inputs:
    """Other values where bool ``where`` ``[B, C, L]`` is true."""
    name = next(name for name in x if name != "steps")
    return {**x, name: torch.where(where, x[name] * -3 + 7, x[name])}


def steps_of(masked: torch.Tensor, kind: str, patch: int) -> torch.Tensor:
    """The steps ``[B, C, L]`` that hidden patches cover."""
    by_channel = masked.view(4, 3, -1) if kind == "series" else masked.unsqueeze(1).expand(-1, 3, -1)
    return by_channel.repeat_interleave(patch, 2)[:, :, :22]


@pytest.mark.parametrize("kind", ["series", "audio"])
def test_nothing_of_what_is_hidden_reaches_any_output(kind: str) -> None:
    s, x = student(kind).train(), inputs(kind)
    masked = every_second(s.backbone.positions(x))
    y = changed(x, steps_of(masked, kind, s.backbone.patch))
    a, b = s.backbone(x, masked, drop=True), s.backbone(y, masked)
    assert torch.equal(a.pooled, b.pooled) and torch.equal(a.tokens, b.tokens)
    assert not torch.allclose(s.backbone(x).pooled, s.backbone(y).pooled) and not torch.allclose(s.backbone(x).pooled, a.pooled)
    assert a.tokens.shape == (4, s.backbone.positions(x), s.backbone.token_width) and a.pooled.shape == (4, s.backbone.width)


@pytest.mark.parametrize("kind", ["series", "audio"])
def test_what_lies_behind_the_end_does_not_matter(kind: str) -> None:
    s, x = student(kind).eval(), inputs(kind)
    together = s.features(x)
    patch = s.backbone.patch
    for i, steps in enumerate(STEPS.tolist()):
        length = -(-steps // patch) * patch
        name = next(name for name in x if name != "steps")
        other = x[name][i : i + 1].clone()
        other[:, :, length:] = 9.0
        alone = s.features({name: other, "steps": STEPS[i : i + 1]})
        torch.testing.assert_close(together.pooled[i : i + 1], alone.pooled, atol=1e-5, rtol=0)
    assert together.padding is not None and (together.padding.view(4, -1, -(-22 // patch))[3, 0].tolist()) == [t * patch >= 7 for t in range(-(-22 // patch))]


def test_channels_are_seen_apart_and_by_one_set_of_weights() -> None:
    s, x = student("series").eval(), inputs("series")
    tokens = s.features(x).tokens.view(4, 3, -1, s.backbone.token_width)
    other = torch.zeros(4, 3, 22, dtype=torch.bool)
    other[:, 1] = True
    after = s.features(changed(x, other)).tokens.view_as(tokens)
    assert torch.equal(tokens[:, 0], after[:, 0]) and not torch.allclose(tokens[:, 1], after[:, 1])
    turned = s.features({**x, "series": x["series"].flip(1)}).tokens.view_as(tokens)
    torch.testing.assert_close(turned.flip(1), tokens, atol=1e-5, rtol=0)


def test_level_and_spread_are_taken_away_and_can_be_told() -> None:
    s, x = student("series").eval(), inputs("series")
    moved = {**x, "series": (x["series"] * 4 + 10).masked_fill((torch.arange(22) >= STEPS.unsqueeze(1)).unsqueeze(1), 0.0)}
    torch.testing.assert_close(s.features(x).tokens, s.features(moved).tokens, atol=0.06, rtol=0)
    with torch.no_grad():
        s.backbone.level.weight[::2] = 0.5
        told = s.features(x).tokens - s.features(moved).tokens
    assert float(told.abs().max()) > 0.3


def test_many_channels_are_averaged() -> None:
    assert student("series", 16).backbone.width == 16 * 32 and student("series", 17).backbone.width == 32


def test_losses_by_hand() -> None:
    for kind in ("series", "audio"):
        s, x = student(kind, patch=4).eval(), inputs(kind)
        masked = torch.zeros(4, s.backbone.positions(x), dtype=torch.bool)
        masked[:, 1] = True
        masked[1, 3] = kind == "series"  # the steps 12 to 15 of the first channel, of which one is there
        decoder = decoder_for(s.backbone, key=0)
        features = s.backbone(x, masked)
        loss = decoder(features, View("masked", x, torch.arange(4), masked))
        guesses = (features.tokens @ decoder.head.weight.T + decoder.head.bias).detach().double().numpy()
        values = values_of(x).double().numpy()
        if kind == "audio":
            assert loss[0].item() == pytest.approx(np.mean((guesses[0, 1] - values[0, :, 4:8].T.ravel()) ** 2), rel=1e-4)
            continue
        seen = np.delete(values[1, 0, :13], [4, 5, 6, 7, 12])
        target = (values[1, 0] - seen.mean()) / np.sqrt(seen.var() + 1e-3)
        errors = np.mean((guesses[1, 1] - target[4:8]) ** 2), (guesses[1, 3, 0] - target[12]) ** 2
        assert loss[1].item() == pytest.approx(np.mean(errors), rel=1e-3)


@pytest.mark.parametrize("kind", ["series", "audio"])
def test_a_decoder_learns(kind: str) -> None:
    s, x = student(kind), inputs(kind)
    view = View("masked", x, torch.arange(4), every_second(s.backbone.positions(x)))
    decoder = decoder_for(s.backbone, key=3)
    optimizer = torch.optim.AdamW([*s.backbone.parameters(), *decoder.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        loss = decoder(s.backbone(x, view.masked), view).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_cnn_of_sounds_hides_frames_and_ignores_what_lies_behind_the_end() -> None:
    s = models.build("tiny-audio", AudioModality(8000, 22, mels=12), CLASSES, 1).train()
    x = inputs("audio", channels=12)
    count = s.backbone.positions(x)
    masked = every_second(count)
    hidden = masked.unsqueeze(1).repeat_interleave(s.backbone.patch, 2)[:, :, :22].expand_as(x["spectrogram"])
    a, b = s.backbone(x, masked), s.backbone(changed(x, hidden), masked)
    assert torch.equal(a.tokens, b.tokens) and not torch.allclose(a.tokens, s.backbone(x).tokens)
    assert (
        a.tokens.shape == (4, count, 64)
        and a.padding is not None
        and a.padding.sum(1).tolist() == [0, *((torch.arange(0, 22, s.backbone.patch) >= n).sum().item() for n in (13, 22, 7))]
    )
    decoder = decoder_for(s.backbone, key=3)
    assert decoder(a, View("masked", x, torch.arange(4), masked)).shape == (4,)
