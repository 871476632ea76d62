"""Losses of language models against float64 numpy, written out sample by sample."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from understudy import maths

R = np.random.default_rng(0)


def t(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_token_log_probabilities_are_those_of_the_next_token() -> None:
    logits, tokens = R.normal(size=(2, 5, 7)), R.integers(7, size=(2, 5))
    wanted = np.zeros((2, 5))
    for b in range(2):
        for place in range(1, 5):
            z = logits[b, place - 1]
            wanted[b, place] = z[tokens[b, place]] - np.log(np.exp(z).sum())
    torch.testing.assert_close(maths.token_log_probabilities(t(logits), torch.tensor(tokens)), t(wanted))


def test_masked_sum() -> None:
    values = t(np.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]]))
    assert maths.masked_sum(values, torch.tensor([[True, True, False], [False, False, True]])).tolist() == [3.0, 6.0]


def test_dpo() -> None:
    c, r, rc, rr = R.normal(size=(4, 6)) * 5
    wanted = [-np.log(sigmoid(0.3 * ((c[i] - rc[i]) - (r[i] - rr[i])))) for i in range(6)]
    torch.testing.assert_close(maths.dpo(t(c), t(r), t(rc), t(rr), beta=0.3), t(np.array(wanted)))


def test_dpo_starts_at_ln_2_and_gives_the_reference_no_gradient() -> None:
    c, r = (t(R.normal(size=4)).requires_grad_() for _ in range(2))
    loss = maths.dpo(c, r, c, r, beta=0.1)
    torch.testing.assert_close(loss, torch.full((4,), np.log(2), dtype=torch.float64))
    loss.sum().backward()
    # At the start the slope of the logistic is 1/2 (uclaml/SPIN, issue 22): -beta / 2 for the chosen, + beta / 2 for the rejected answer.
    torch.testing.assert_close(c.grad, torch.full((4,), -0.05, dtype=torch.float64))
    torch.testing.assert_close(r.grad, torch.full((4,), 0.05, dtype=torch.float64))


def test_kto() -> None:
    p, ref, kp, kr = R.normal(size=(4, 6)) * 3
    good = R.random(6) < 0.5
    zero = max(0.0, float(np.mean(kp - kr)))
    wanted = [1.5 * (1 - sigmoid(0.2 * (p[i] - ref[i] - zero))) if good[i] else 0.5 * (1 - sigmoid(0.2 * (zero - p[i] + ref[i]))) for i in range(6)]
    said = maths.kto(t(p), t(ref), torch.tensor(good), t(kp), t(kr), beta=0.2, desirable_weight=1.5, undesirable_weight=0.5)
    torch.testing.assert_close(said, t(np.array(wanted)))


def test_kto_takes_no_gradient_through_its_zero_point() -> None:
    kp = torch.ones(3, requires_grad=True)
    p = torch.zeros(3, requires_grad=True)
    maths.kto(p, torch.zeros(3), torch.ones(3, dtype=torch.bool), kp, torch.zeros(3)).sum().backward()
    assert kp.grad is None and p.grad is not None and bool((p.grad < 0).all())


def test_advantages() -> None:
    rewards = R.normal(size=(3, 4))
    one_out = [[row[i] - np.mean(np.delete(row, i)) for i in range(4)] for row in rewards]
    torch.testing.assert_close(maths.leave_one_out_advantage(t(rewards)), t(np.array(one_out)))
    grouped = [[(x - row.mean()) / (row.std(ddof=1) + 1e-6) for x in row] for row in rewards]
    torch.testing.assert_close(maths.group_advantage(t(rewards)), t(np.array(grouped)))
    assert maths.group_advantage(torch.ones(1, 4)).tolist() == [[0, 0, 0, 0]], "where all answers are alike nothing is learned"


def test_policy_gradient() -> None:
    new, old, a = R.normal(size=(2, 3)) * 0.3, R.normal(size=(2, 3)) * 0.3, np.array([1.0, -2.0])
    wanted = np.zeros((2, 3))
    for b in range(2):
        for i in range(3):
            ratio = np.exp(new[b, i] - old[b, i])
            wanted[b, i] = -min(ratio * a[b], np.clip(ratio, 0.8, 1.2) * a[b])
    torch.testing.assert_close(maths.policy_gradient(t(new), t(old), t(a)), t(wanted))
    p = t(new).requires_grad_()
    maths.policy_gradient(p, p, t(a), clip=None).sum().backward()
    torch.testing.assert_close(p.grad, -t(a)[:, None].expand(2, 3))


def test_kl_estimate_is_unbiased_and_never_negative() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    each = maths.kl_estimate(t(np.log(p)), t(np.log(q)))
    assert float((t(p) * each).sum()) == pytest.approx(float((p * np.log(p / q)).sum()))
    assert bool((each >= 0).all())


def test_pass_at_k_counts_subsets() -> None:
    for right in range(6):
        answers = [True] * right + [False] * (5 - right)
        hits = [any(chosen) for chosen in combinations(answers, 3)]
        assert float(maths.pass_at_k(torch.tensor([right]), 5, 3)) == pytest.approx(np.mean(hits))
    with pytest.raises(ValueError, match="at least 6"):
        maths.pass_at_k(torch.tensor([1]), 5, 6)


def test_balance() -> None:
    said = maths.balance(torch.tensor([0, 4, 8, 8, 0]), torch.tensor([3, 4, 16, 8, 0]), 8)
    torch.testing.assert_close(said, torch.tensor([0.0, 0.5, 0.5, 1.0, 0.0], dtype=torch.float64))


def test_gkd_s_divergences_hold_place_by_place() -> None:
    """The JSD of 2306.13649, equation 1, on logits ``[B, L, V]``, and its two limits."""
    p, q = R.normal(size=(2, 3, 5)), R.normal(size=(2, 3, 5))
    wanted = np.zeros((2, 3))
    for b in range(2):
        for i in range(3):
            P, Q = (np.exp(z) / np.exp(z).sum() for z in (p[b, i], q[b, i]))
            m = 0.3 * P + 0.7 * Q
            wanted[b, i] = 0.3 * (P * np.log(P / m)).sum() + 0.7 * (Q * np.log(Q / m)).sum()
    torch.testing.assert_close(maths.jsd(teacher_logits=t(p), student_logits=t(q), beta=0.3), t(wanted))
    near = maths.jsd(teacher_logits=t(p), student_logits=t(q), beta=1e-6) / 1e-6
    torch.testing.assert_close(near, maths.kl(teacher_logits=t(p), student_logits=t(q)), rtol=1e-4, atol=1e-4)
    near = maths.jsd(teacher_logits=t(p), student_logits=t(q), beta=1 - 1e-6) / 1e-6
    torch.testing.assert_close(near, maths.reverse_kl(teacher_logits=t(p), student_logits=t(q)), rtol=1e-4, atol=1e-4)
