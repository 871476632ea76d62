"""Ridge against scikit-learn and numpy, and the closed forms of self-distillation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from understudy import maths

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(30, 5)) + 2, RNG.normal(size=(30, 3))


def fitted(targets: np.ndarray, penalty: float) -> np.ndarray:
    weight, bias = maths.ridge(torch.tensor(X), torch.tensor(targets), penalty)
    return X @ weight.numpy().T + bias.numpy()


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_ridge(penalty: float) -> None:
    weight, bias = maths.ridge(torch.tensor(X), torch.tensor(Y), penalty)
    want = Ridge(alpha=penalty, solver="svd").fit(X, Y)
    np.testing.assert_allclose(weight, want.coef_, atol=1e-12)
    np.testing.assert_allclose(bias, want.intercept_, atol=1e-12)


@pytest.mark.parametrize("share", [0.25, 0.35, 1.0])
def test_generations_with_ground_truth_end_at_one_ridge_of_a_larger_penalty(share: float) -> None:
    """2102.13088, theorem 3.6: the limit is the first fit with penalty / share. Without ground truth it is the mean."""
    f = fitted(Y, 2.0)
    for _ in range(300):
        f = fitted(share * Y + (1 - share) * f, 2.0)
    np.testing.assert_allclose(f, fitted(Y, 2.0 / share), atol=1e-10)


def test_without_ground_truth_every_generation_shrinks_each_direction() -> None:
    """b_t = (d / (d + penalty))^t along every eigenvector, d its eigenvalue."""
    centred = X - X.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    f = Y
    for _ in range(4):
        f = fitted(f, 2.0)
    want = Y.mean(0) + u @ (((s**2 / (s**2 + 2.0)) ** 4)[:, None] * (u.T @ (Y - Y.mean(0))))
    np.testing.assert_allclose(f, want, atol=1e-10)


def test_best_label_share() -> None:
    truth, a, b = RNG.normal(size=(3, 8, 2))
    errors = {share: ((share * a + (1 - share) * b - truth) ** 2).sum() for share in np.linspace(-2, 3, 5001)}
    found = maths.best_label_share(*(torch.tensor(x) for x in (truth, a, b)))
    assert found == pytest.approx(min(errors, key=lambda share: errors[share]), abs=1e-3)
    assert maths.best_label_share(torch.tensor(truth), torch.tensor(a), torch.tensor(a)) == 1.0


@pytest.mark.parametrize("whiten", [False, True])
def test_principal(whiten: bool) -> None:
    x = RNG.normal(size=(40, 6)) @ RNG.normal(size=(6, 6)) + 1
    want = PCA(4, whiten=whiten).fit_transform(x) * (np.sqrt(40 / 39) if whiten else 1)  # N - 1 there
    np.testing.assert_allclose(maths.principal(torch.tensor(x), 4, whiten).abs(), np.abs(want), atol=1e-10)


def test_directions_without_content_are_not_blown_up() -> None:
    x = torch.cat([torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.zeros(30, 1)], 1)
    z = maths.principal(x, 3, whiten=True)
    np.testing.assert_allclose(z.square().mean(0), [1, 1, 0], atol=1e-10)
