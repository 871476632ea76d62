"""The straight path against its own definition: ends, direction, the way back, and DDIM's step written out."""

from __future__ import annotations

import numpy as np
import torch

from understudy.maths import flow

RNG = np.random.default_rng(7)
X, E, Y = (torch.tensor(RNG.normal(size=(5, 2, 3, 3))) for _ in range(3))


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_path_runs_from_the_image_to_the_noise() -> None:
    at = flow.noised(X, E, times(0, 0.25, 0.5, 1, 0.1))
    torch.testing.assert_close(at[0], X[0])
    torch.testing.assert_close(at[3], E[3])
    np.testing.assert_allclose(at[1], 0.75 * X[1].numpy() + 0.25 * E[1].numpy())


def test_the_velocity_is_the_path_s_derivative_and_leads_back() -> None:
    t, step = times(0.1, 0.3, 0.5, 0.7, 0.9), 1e-6
    moved = (flow.noised(X, E, t + step) - flow.noised(X, E, t)) / step
    torch.testing.assert_close(moved, flow.velocity(X, E), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(flow.cleaned(flow.noised(X, E, t), flow.velocity(X, E), t), X)


def test_a_step_of_the_signal_is_a_step_of_ddim() -> None:
    # DDIM: x_s = alpha_s f + sigma_s (x_t - alpha_t f) / sigma_t, here with alpha = 1 - t and sigma = t.
    t, s = 0.7, 0.4
    noisy, f = (1 - t) * Y + t * E, X
    there = (1 - s) * f + s * (noisy - (1 - t) * f) / t
    expected = (there - s * E) / (1 - s)
    five = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(flow.signal_step(Y, f, t * five, s * five), expected)
    torch.testing.assert_close(flow.signal_step(Y, f, five, s * five), f, msg="no signal is left at t = 1")
    torch.testing.assert_close(flow.signal_step(Y, f, s * five, 0 * five), f, msg="at s = 0 everything is signal")
