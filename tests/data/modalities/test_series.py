"""Series: standardised by channel, cut to their middle, altered by keys alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy import keyed
from understudy.data.modalities.series import SeriesModality, filled
from understudy.data.modalities.timeline import drawn, spans
from understudy.errors import UserError

N, LENGTH = 600, 20
WALKS = [np.stack([np.cumsum(row), 100 + 5 * row]) for row in keyed.normal(keyed.fold(4, torch.arange(N)), (30,)).double().numpy()]
SERIES = [walk[:, : 12 + i % 19] for i, walk in enumerate(WALKS)]
MODALITY = SeriesModality.fit(["walk", "noise"], SERIES, LENGTH)
RAW = MODALITY.collate([MODALITY.encode(one) for one in SERIES])
KEYS = keyed.fold(6, torch.arange(N))


def test_channels_are_standardised_and_the_middle_is_kept() -> None:
    values = np.concatenate([one[1] for one in SERIES])
    assert MODALITY.means[1] == pytest.approx(values.mean()) and MODALITY.stds[1] == pytest.approx(values.std())
    assert RAW["steps"].tolist() == [min(LENGTH, 12 + i % 19) for i in range(N)]
    long = SERIES[18]  # 30 steps: the first five and the last five are not seen
    expected = (long[:, 5:25] - np.array(MODALITY.means)[:, None]) / np.array(MODALITY.stds)[:, None]
    np.testing.assert_allclose(RAW["series"][18].numpy(), expected, atol=1e-5)
    assert (RAW["series"][0, :, 12:] == 0).all()


def test_missing_values_repeat_their_neighbour() -> None:
    gaps = np.array([[np.nan, 1, np.nan, np.nan, 4, np.nan], [np.nan] * 6])
    np.testing.assert_array_equal(filled(gaps), [[1, 1, 1, 1, 4, 4], [np.nan] * 6])
    assert np.isfinite(MODALITY.encode(np.array([[1, np.inf, 3], [np.nan] * 3]))["series"].numpy()).all()


@pytest.mark.parametrize("name", ["plain", "weak", "strong", "masked"])
def test_a_view_belongs_to_sample_and_key_alone(name: str) -> None:
    everything = MODALITY.view(RAW, name, KEYS)
    index = torch.tensor([7, 3])
    alone = MODALITY.view({k: v[index] for k, v in RAW.items()}, name, KEYS[index])
    assert all(torch.equal(everything.inputs[k][index], alone.inputs[k]) for k in alone.inputs)
    assert name != "masked" or torch.equal(everything.masked[index], alone.masked)  # type: ignore[index, arg-type]
    behind = torch.arange(LENGTH) >= RAW["steps"].unsqueeze(1)
    assert (everything.inputs["series"].transpose(1, 2)[behind] == 0).all()


def test_weak_keeps_most_and_strong_leaves_out() -> None:
    full = RAW["steps"] == LENGTH
    plain, weak, strong = (MODALITY.view(RAW, name, KEYS).inputs["series"][full] for name in ("plain", "weak", "strong"))

    def likeness(other: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(plain[:, 0], other[:, 0]).median())

    assert likeness(weak) > 0.9 and likeness(strong) < likeness(weak)
    assert (weak == 0).float().mean() < 0.01 and 0.15 < (strong == 0).float().mean() < 0.45


def test_spans_lie_inside_and_are_as_wide_as_allowed() -> None:
    hidden = spans(KEYS, torch.full((N,), 10), LENGTH, 0.4)
    assert hidden.sum(1).max() == 4 and not hidden[:, 10:].any()
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(1)
    assert edges.max() == 2  # one span, not several


def test_masks_count_patches_of_every_channel() -> None:
    view = MODALITY.view(RAW, "masked", KEYS, ratio=0.5, patch=5)
    masked = view.masked
    assert masked is not None and masked.shape == (N, 8)
    full = RAW["steps"] == LENGTH
    assert (masked.view(N, 2, 4)[full].sum(2) == 2).all()
    assert not masked.view(N, 2, 4)[RAW["steps"] <= 15][:, :, 3].any()  # nothing is there to hide
    runs = MODALITY.view(RAW, "masked", KEYS, ratio=0.5, patch=5, span=2).masked
    assert runs is not None and torch.equal(runs[full, 0], runs[full, 1]) and runs[full].sum() == 4 * full.sum()


def test_a_signature_restores_it() -> None:
    again = SeriesModality.restore(MODALITY.signature())
    assert all(torch.equal(again.encode(SERIES[3])[k], RAW[k][3]) for k in RAW)
    assert again.view(again.examples(3), "plain", KEYS[:3]).inputs["series"].shape == (3, 2, LENGTH)


def test_a_picture_shows_a_rising_line_rising() -> None:
    picture = drawn(torch.linspace(0, 1, 50).unsqueeze(0), 50)
    rows = picture.argmax(0)
    assert picture.dtype == np.uint8 and (np.diff(rows.astype(int)) <= 0).all() and rows[0] > rows[-1]


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="2 channels walk, noise"):
        MODALITY.encode(np.zeros((3, 10)))
    with pytest.raises(UserError, match="no number"):
        MODALITY.encode(np.full((2, 10), np.nan))
    with pytest.raises(UserError, match="no view 'crop'"):
        MODALITY.view(RAW, "crop", KEYS)
    with pytest.raises(UserError, match="at least two steps"):
        SeriesModality(["x"], 1)
