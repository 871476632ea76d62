"""Sounds: spectrograms that say which tone is heard, whatever the sampling rate, and views by keys alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy import keyed
from understudy.data.modalities.audio import AudioModality, Sound, mel_filters
from understudy.errors import UserError

RATE, N = 8000, 60


def tone(hertz: float, seconds: float = 0.5, rate: int = RATE, loud: float = 0.5) -> Sound:
    return Sound((loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32), rate)


def louder(sound: Sound, factor: float) -> Sound:
    return Sound(sound.samples * np.float32(factor), sound.rate)


SOUNDS = [tone(200 + 40 * i, 0.2 + 0.005 * i) for i in range(N)]
MODALITY = AudioModality(RATE, length=40).fitted(SOUNDS)
RAW = MODALITY.collate([MODALITY.encode(one) for one in SOUNDS])
KEYS = keyed.fold(6, torch.arange(N))


def test_filters_are_those_of_another_implementation() -> None:
    reference = pytest.importorskip("transformers.audio_utils")
    theirs = reference.mel_filter_bank(257, 40, 0.0, 8000.0, 16_000, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(16_000, 512, 40), theirs.T, atol=1e-9)


def test_the_loudest_band_is_the_tones() -> None:
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), 42)[1:-1] / 2595) - 1)
    for hertz in (300, 1000, 2500):
        frames = MODALITY.spectrogram(tone(hertz))
        assert frames.shape == (40, 51)
        heard = centres[int(frames[:, 10:-10].mean(1).argmax())]
        assert abs(heard - hertz) < 0.12 * hertz + 30


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    quiet, loud = (MODALITY.spectrogram(tone(1000, loud=loud))[:, 20] for loud in (0.25, 0.5))
    band = int(loud.argmax())
    assert float(loud[band] - quiet[band]) == pytest.approx(np.log(4), abs=0.01)


def test_another_rate_and_two_channels_are_the_same_sound() -> None:
    plain = MODALITY.spectrogram(tone(700))
    fast = tone(700, rate=44_100)
    np.testing.assert_allclose(MODALITY.spectrogram(fast)[8:25, 5:45], plain[8:25, 5:45], atol=0.15)
    both = Sound(np.stack([tone(700).samples] * 2, 1), RATE)
    np.testing.assert_allclose(MODALITY.spectrogram(both), plain, atol=1e-4)


def test_the_middle_of_a_long_sound_is_seen() -> None:
    quiet, loud = tone(500, 0.5, loud=0.001).samples, tone(500, 0.4).samples
    encoded = MODALITY.encode(Sound(np.concatenate([quiet, loud, quiet]), RATE))
    assert encoded["steps"] == 40 and encoded["frames"].shape == (40, 40)
    assert float(encoded["frames"].float().amax(0)[2:-2].min()) > 0
    assert MODALITY.encode(tone(500, 0.1))["steps"] == 11


@pytest.mark.parametrize("name", ["plain", "weak", "strong", "masked"])
def test_a_view_belongs_to_sample_and_key_alone(name: str) -> None:
    everything = MODALITY.view(RAW, name, KEYS)
    index = torch.tensor([7, 3])
    alone = MODALITY.view({k: v[index] for k, v in RAW.items()}, name, KEYS[index])
    assert all(torch.equal(everything.inputs[k][index], alone.inputs[k]) for k in alone.inputs)
    assert name != "masked" or torch.equal(everything.masked[index], alone.masked)  # type: ignore[index, arg-type]
    behind = torch.arange(40) >= RAW["steps"].unsqueeze(1)
    assert (everything.inputs["spectrogram"].transpose(1, 2)[behind] == 0).all()


def test_weak_is_a_shift_and_a_gain() -> None:
    plain, weak = (MODALITY.view(RAW, name, KEYS).inputs["spectrogram"] for name in ("plain", "weak"))
    gain = (weak[:, :, 10] - plain[:, :, 10]).median(1).values * MODALITY.std * 10 / np.log(10)
    assert gain.abs().max() < 6.5 and gain.std() > 2  # decibels


def test_strong_silences_bands_and_moments() -> None:
    strong = MODALITY.view(RAW, "strong", KEYS).inputs["spectrogram"]
    full = strong[RAW["steps"] == 40]
    bands, moments = (full == 0).all(2).sum(1), (full == 0).all(1).sum(1)
    assert 2 < bands.float().mean() < 20 and bands.max() <= 20 and 2 < moments.float().mean() < 16 and moments.max() <= 16


def test_a_signature_restores_it_and_gain_moves_nothing_else() -> None:
    again = AudioModality.restore(MODALITY.signature())
    assert all(torch.equal(again.encode(SOUNDS[3])[k], RAW[k][3]) for k in RAW)
    assert again.view(again.examples(3), "plain", KEYS[:3]).inputs["spectrogram"].shape == (3, 40, 40)
    assert again.pictured(again.view(RAW, "plain", KEYS))[0].shape == (40, 40)
    assert float((MODALITY.spectrogram(louder(SOUNDS[0], 2)) - MODALITY.spectrogram(SOUNDS[0])).max()) < 1.5


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="no sample"):
        MODALITY.encode(Sound(np.empty(0, np.float32), RATE))
    with pytest.raises(UserError, match="no view 'crop'"):
        MODALITY.view(RAW, "crop", KEYS)
    with pytest.raises(UserError, match="rate=10"):
        AudioModality(10, 20)
