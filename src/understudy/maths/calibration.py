"""How far a confidence or a measured difference can be trusted. Plain numbers out; everything in float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Reliability:
    """Per confidence bin: mean confidence, accuracy (both NaN in an empty bin) and number of samples, ``[bins]`` each."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Reliability:
    """The reliability diagram over equal-width bins (i / bins, (i + 1) / bins] of the largest probability: ``[N, C]``, int64 ``[N]``."""
    confidence, predicted = (x.cpu().numpy() for x in probabilities.double().max(-1))
    correct = predicted == labels.cpu().numpy()
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    some = np.where(count, count, np.nan)
    return Reliability(np.bincount(bin_of, confidence, bins) / some, np.bincount(bin_of, correct, bins) / some, count)


def ece(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error, sum_b n_b / N |accuracy_b - confidence_b| (Guo et al., 1706.04599, eq. 3): ``[N, C]``, ``[N]`` -> 0..1."""
    found = reliability(probabilities, labels, bins)
    return float(np.nansum(found.count * np.abs(found.accuracy - found.confidence)) / found.count.sum())


def brier(probabilities: Tensor, labels: Tensor) -> float:
    """Brier's score, mean_i sum_c (p_ic - [c = y_i])^2 (Brier, 1950), in 0..2, less is better: ``[N, C]``, int64 ``[N]``."""
    p = probabilities.detach().double().cpu()
    return float((p - F.one_hot(labels.cpu(), p.shape[-1])).square().sum(-1).mean())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T in 0.01..100 that minimises the mean of -log softmax(logits / T)_label on held-out data: ``[N, C]``, int64 ``[N]`` (1706.04599, section 4.2).

    The loss is convex in 1 / T, so a bounded search over log T finds the minimum. Where every sample is right it is the lower bound: take many samples.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = logits.detach().double().cpu(), labels.cpu()
    found = minimize_scalar(lambda t: float(F.cross_entropy(logits / math.exp(t), labels)), bounds=(math.log(0.01), math.log(100.0)), method="bounded")
    return math.exp(found.x)


def accuracy_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an accuracy of ``correct`` out of ``total`` >= 1 independent samples (Wilson, 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


class Difference(NamedTuple):
    """Mean of paired differences and its standard error; infinite from one pair, which shows nothing."""

    mean: float
    standard_error: float


def paired_difference(treated: Sequence[float], control: Sequence[float]) -> Difference:
    """Mean of treated_i - control_i and its standard error sd / sqrt(n), pairs matched by seed. Raises ValueError for unequal or empty lists."""
    if len(treated) != len(control) or not len(treated):
        raise ValueError(f"{len(treated)} and {len(control)} results do not make pairs")
    difference = np.asarray(treated, dtype=np.float64) - np.asarray(control, dtype=np.float64)
    n = len(difference)
    return Difference(float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(n)) if n > 1 else math.inf)
