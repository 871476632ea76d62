"""Drawing a token: the right shares, and nothing that was ruled out."""

from __future__ import annotations

import numpy as np
import torch

from understudy import maths

P = np.array([0.1, 0.4, 0.05, 0.3, 0.15])
LOGITS = torch.tensor(np.log(P)).float()
GRID = (torch.arange(100_000) + 0.5) / 100_000


def shares(**options: float) -> np.ndarray:
    """How often each token is drawn when the random number takes every value."""
    drawn = maths.next_token(LOGITS.expand(len(GRID), 5), GRID, **options)  # type: ignore[arg-type]
    return np.bincount(drawn.numpy(), minlength=5) / len(GRID)


def test_every_token_gets_its_share() -> None:
    np.testing.assert_allclose(shares(), P, atol=1e-4)


def test_temperature() -> None:
    wanted = P**2 / (P**2).sum()
    np.testing.assert_allclose(shares(temperature=0.5), wanted, atol=1e-4)
    assert shares(temperature=0.0).tolist() == [0, 1, 0, 0, 0]


def test_top_k_leaves_the_likeliest() -> None:
    np.testing.assert_allclose(shares(top_k=2), [0, 0.4 / 0.7, 0, 0.3 / 0.7, 0], atol=1e-4)


def test_top_p_leaves_the_fewest_that_reach_it() -> None:
    np.testing.assert_allclose(shares(top_p=0.69), [0, 0.4 / 0.7, 0, 0.3 / 0.7, 0], atol=1e-4)
    np.testing.assert_allclose(shares(top_p=0.71), [0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85], atol=1e-4)
    assert shares(top_p=1e-9).tolist() == [0, 1, 0, 0, 0], "one token is always left"


def test_what_is_ruled_out_is_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[1] = -torch.inf
    for options in ({}, {"top_p": 0.999}, {"top_k": 5}):
        drawn = maths.next_token(logits.expand(3, 5), torch.tensor([0.0, 0.5, 1 - 2**-24]), **options)  # type: ignore[arg-type]
        assert 1 not in drawn.tolist()
