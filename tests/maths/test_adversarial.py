"""The opposite gradient, and the discriminator's loss against numpy."""

from __future__ import annotations

import numpy as np
import torch

from understudy import maths

RNG = np.random.default_rng(8)


def test_reversed_gradient() -> None:
    x = torch.tensor(RNG.normal(size=5), requires_grad=True)
    y = maths.reversed_gradient(x)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-15)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, -2 * x.detach())


def test_told_apart() -> None:
    real, made = RNG.normal(size=(2, 6, 1))
    sigmoid = [1 / (1 + np.exp(-v)) for v in (real, made)]
    want = -np.log(sigmoid[0]) - np.log(1 - sigmoid[1])
    np.testing.assert_allclose(maths.told_apart(torch.tensor(real), torch.tensor(made)), want[:, 0], rtol=1e-12)
