"""Calibration and intervals against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from understudy import maths

RNG = np.random.default_rng(8)


def test_ece_of_known_bins() -> None:
    # 10 samples at confidence 0.75 of which 5 are right, 10 at 0.95 of which 9 are right.
    p = torch.tensor([[0.75, 0.25]] * 10 + [[0.95, 0.05]] * 10)
    labels = torch.tensor([0] * 5 + [1] * 5 + [0] * 9 + [1])
    assert maths.ece(p, labels, bins=10) == pytest.approx(0.5 * 0.25 + 0.5 * 0.05, abs=1e-6)
    found = maths.reliability(p, labels, bins=10)
    assert found.count.tolist() == [0] * 7 + [10, 0, 10]
    np.testing.assert_allclose(found.accuracy[[7, 9]], [0.5, 0.9])
    assert np.isnan(found.accuracy[0]) and np.isnan(found.confidence[0])


def test_certain_and_right_is_calibrated() -> None:
    assert maths.ece(torch.eye(3), torch.arange(3)) == 0.0


def test_brier_score_against_numpy() -> None:
    p, labels = RNG.dirichlet([1.0] * 3, 50), RNG.integers(0, 3, 50)
    assert maths.brier(torch.tensor(p), torch.tensor(labels)) == pytest.approx(np.mean(np.sum((p - np.eye(3)[labels]) ** 2, -1)), rel=1e-12)
    assert maths.brier(torch.eye(3), torch.arange(3)) == 0.0 and maths.brier(torch.eye(3), torch.tensor([1, 2, 0])) == 2.0


def test_temperature_is_recovered() -> None:
    z = RNG.normal(size=(20_000, 4)) * 2
    labels = (z + RNG.gumbel(size=z.shape)).argmax(-1)  # drawn from softmax(z)
    found = maths.fit_temperature(torch.tensor(z * 2.5), torch.tensor(labels))
    assert found == pytest.approx(2.5, rel=0.03)


def test_temperature_is_the_minimum_of_the_likelihood() -> None:
    z, labels = torch.tensor(RNG.normal(size=(300, 3)) * 3), torch.tensor(RNG.integers(0, 3, 300))
    z[torch.arange(300), labels] += 2
    best = maths.fit_temperature(z, labels)

    def nll(t: float) -> float:
        return float(torch.nn.functional.cross_entropy(z / t, labels))

    assert nll(best) <= min(nll(best * 1.01), nll(best / 1.01))


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (7, 10), (10, 10), (950, 1000)])
def test_wilson(correct: int, total: int) -> None:
    z, p = 1.959963984540054, correct / total
    centre, half = p + z**2 / (2 * total), z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    want = (max(0.0, (centre - half) / (1 + z**2 / total)), min(1.0, (centre + half) / (1 + z**2 / total)))
    assert maths.accuracy_interval(correct, total) == pytest.approx(want, abs=1e-9)


def test_paired_difference() -> None:
    found = maths.paired_difference([3.0, 5.0, 7.0], [2.0, 2.0, 2.0])
    assert found.mean == pytest.approx(3.0) and found.standard_error == pytest.approx(2.0 / math.sqrt(3))
    assert maths.paired_difference([1.0], [0.0]).standard_error == math.inf
    with pytest.raises(ValueError, match="2 and 1 results"):
        maths.paired_difference([1.0, 2.0], [1.0])
