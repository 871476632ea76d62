"""What a language model gets right."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from understudy import keyed, maths
from understudy.data.problems import exchanges_of
from understudy.data.samples import Samples
from understudy.errors import UserError
from understudy.evaluate.metrics import Proportion
from understudy.models import Policy, Student
from understudy.teachers.rewards import Reward
from understudy.teachers.writers import PolicyWriter, Sampling


def solved(student: Student, samples: Samples, reward: Reward) -> Proportion:
    """Share of the prompts whose answer scores 1 or more, taking the likeliest token each time."""
    right = _right(student, samples, reward, 1, Sampling(temperature=0.0), 0)
    return Proportion.of(int(right.sum()), len(right))


def solved_within(student: Student, samples: Samples, reward: Reward, ks: Sequence[int], sampling: Sampling | None = None, key: int = 0) -> dict[int, float]:
    """pass@k for every k, each the mean over the prompts of the chance that one of k answers is right, from as many draws as the largest k."""
    drawn = max(ks)
    right = _right(student, samples, reward, drawn, sampling or Sampling(), key)
    return {k: float(maths.pass_at_k(right, drawn, k).mean()) for k in ks}


def _right(student: Student, samples: Samples, reward: Reward, drawn: int, sampling: Sampling, key: int) -> torch.Tensor:
    """How many of ``drawn`` answers are right, int64 ``[N]``."""
    if not isinstance(student, Policy):
        raise UserError("only a model that writes can be asked for answers; choose one such as small-lm or hf:NAME")
    exchanges = [exchange for exchange in exchanges_of(samples) for _ in range(drawn)]
    keys = torch.as_tensor(keyed.fold(keyed.fold(key, samples.keys.repeat_interleave(drawn)), torch.arange(drawn).repeat(len(samples))))
    said = PolicyWriter(student, sampling)([exchange.prompt for exchange in exchanges], keys)
    return (torch.tensor(reward(exchanges, said)) >= 1).reshape(len(samples), drawn).sum(1)
