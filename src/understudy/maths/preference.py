"""What language models are trained by when they are taught by judgements: log-probabilities, preferences, advantages.

A sequence's log-probability is the sum over its answer's tokens, ``[B]``. The reference model's side never receives a gradient. Supervised fine-tuning is
``masked_mean`` of negative token log-probabilities; the divergences of distillation (``kl``, ``reverse_kl``, ``jsd``) are in ``divergences``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import collective
from understudy.maths.precision import in_float32


@in_float32
def token_log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p(token_t | tokens before t): logits ``[B, L, V]`` and tokens int64 ``[B, L]`` -> ``[B, L]``, 0 at the first place, which nothing predicts.

    The logits at place t - 1 are those of the token at t: the shift by one is made here and nowhere else.
    """
    log_p = -F.cross_entropy(logits[:, :-1].movedim(-1, 1), tokens[:, 1:], reduction="none")
    return F.pad(log_p, (1, 0))


@in_float32
def masked_sum(values: Tensor, masked: Tensor) -> Tensor:
    """Sum of each sample's values where ``masked`` is true: ``[B, L]``, bool ``[B, L]`` -> ``[B]``."""
    return values.masked_fill(~masked, 0.0).sum(-1)


@in_float32
def dpo(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float = 0.1) -> Tensor:
    """-log sigmoid(beta [(log p(y+) - log ref(y+)) - (log p(y-) - log ref(y-))]): four times ``[B]`` -> ``[B]`` (DPO, 2305.18290, equation 7).

    With the model's own answers as y- this is the loss of SPIN (2401.01335, equation 4.7, the logistic l).
    """
    margin = (chosen - reference_chosen.detach()) - (rejected - reference_rejected.detach())
    return -F.logsigmoid(beta * margin)


@in_float32
def kto(
    log_p: Tensor, reference: Tensor, desirable: Tensor, kl_log_p: Tensor, kl_reference: Tensor, beta: float = 0.1, desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:  # fmt: skip
    """weight (1 - value), value = sigmoid(beta (r - z)) where ``desirable``, sigmoid(beta (z - r)) elsewhere, r = log p - log ref (KTO, 2402.01306, equation 8).

    z = max(0, mean of ``kl_log_p - kl_reference``) over the batch of all processes, of answers paired with other prompts than their own, is the point that gains are
    measured from; it gets no gradient. All ``[B]`` -> ``[B]``. Couples the samples of a batch through z alone.
    """
    zero = collective.mean((kl_log_p - kl_reference).detach()).clamp_min(0)
    gain = log_p - reference.detach() - zero
    good = desirable_weight * (1 - torch.sigmoid(beta * gain))
    return torch.where(desirable, good, undesirable_weight * (1 - torch.sigmoid(-beta * gain)))


@in_float32
def leave_one_out_advantage(rewards: Tensor) -> Tensor:
    """Reward minus the mean of the other answers' to the same prompt: ``[N, k]`` -> ``[N, k]``, k >= 2 (RLOO, 2402.14740, equation 7)."""
    k = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (k / (k - 1))


@in_float32
def group_advantage(rewards: Tensor, eps: float = 1e-6) -> Tensor:
    """(reward - mean) / (standard deviation + eps) over the answers to one prompt: ``[N, k]`` -> ``[N, k]`` (GRPO, 2402.03300, section 4.1.2)."""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + eps)


@in_float32
def policy_gradient(log_p: Tensor, old_log_p: Tensor, advantage: Tensor, clip: float | None = 0.2) -> Tensor:
    """-min(r A, clip(r, 1 - clip, 1 + clip) A) of every token, r = p / p_old: ``[B, L]`` twice and advantages ``[B]`` -> ``[B, L]`` (1707.06347, equation 7).

    ``clip=None`` leaves -r A, whose gradient where p = p_old is REINFORCE's, -A grad log p: the loss of RLOO.
    """
    ratio = (log_p - old_log_p.detach()).exp()
    a = advantage.detach().unsqueeze(-1)
    return -ratio * a if clip is None else -torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)


@in_float32
def kl_estimate(log_p: Tensor, reference: Tensor) -> Tensor:
    """ref / p - log(ref / p) - 1 of sampled tokens, an unbiased and never negative estimate of KL(p || ref): ``[...]`` twice -> ``[...]`` (2402.03300, equation 4)."""
    log_ratio = reference.detach() - log_p
    return log_ratio.exp() - log_ratio - 1


def pass_at_k(right: Tensor, drawn: int, k: int) -> Tensor:
    """Chance that at least one of k answers is right, from ``right`` int64 ``[N]`` right ones among ``drawn`` >= k: float64 ``[N]`` (2107.03374, equation 1)."""
    if not 1 <= k <= drawn:
        raise ValueError(f"pass@{k} needs at least {k} answers, got {drawn}")
    wrong = (drawn - right).double()
    place = torch.arange(k, dtype=torch.float64)
    return 1 - ((wrong.unsqueeze(-1) - place).clamp_min(0) / (drawn - place)).prod(-1)


def balance(right: Tensor, selected: Tensor, enough: int) -> Tensor:
    """min(right / enough, 1) right / selected of every prompt, 0 where nothing was selected: numbers of answers ``[N]`` twice -> float64 ``[N]``.

    ``right`` counts the right ones among the ``selected`` ones, each different from the others (B-STaR, 2412.17256, equation 2).
    """
    right, selected = right.double(), selected.double()
    return (right / enough).clamp_max(1) * right / selected.clamp_min(1)
