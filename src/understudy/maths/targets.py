"""Making and judging targets: probabilities in, probabilities, weights or selections out. Nothing here carries a gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from understudy import collective
from understudy.maths.precision import in_float32


@in_float32
@torch.no_grad()
def softened(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature): ``[..., C]`` -> ``[..., C]``."""
    return (logits / temperature).softmax(-1)


@in_float32
@torch.no_grad()
def smooth(probabilities: Tensor, smoothing: float) -> Tensor:
    """Label smoothing (1 - s) p + s / C, p usually one-hot (Szegedy et al., 1512.00567, section 7): ``[B, C]`` -> ``[B, C]``."""
    return probabilities * (1 - smoothing) + smoothing / probabilities.shape[-1]


@in_float32
@torch.no_grad()
def progressive(labels: Tensor, past: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) labels + alpha times what a teacher, such as the model's own past, says: ``[B, C]`` twice -> ``[B, C]``.

    In PS-KD (2006.12000) alpha grows linearly over training, alpha_t = alpha_T t / T. Above 1 the labels count negatively (2301.13304, section 3).
    """
    return torch.lerp(labels, past, alpha)


@in_float32
@torch.no_grad()
def edited(probabilities: Tensor, labels: Tensor, *, low: float, middle: float, high: float, smoothing: float) -> Tensor:
    """A teacher's label of a crop, corrected by its confidence, the largest probability (FerKD, 2312.17473): ``[B, C]``, int64 ``[B]`` -> ``[B, C]``.

    Below ``low`` or above ``high`` the crop is dropped: all zeros. From ``low`` to below ``middle`` the smoothed given label stands instead, unless there is
    none (-1). All others keep the teacher's.
    """
    confidence = probabilities.amax(-1, keepdim=True)
    given = smooth(torch.nn.functional.one_hot(labels.clamp_min(0), probabilities.shape[-1]).to(probabilities.dtype), smoothing)
    replaced = (confidence < middle) & (labels >= 0).unsqueeze(-1)
    return torch.where(replaced, given, probabilities) * ((confidence >= low) & (confidence <= high))


@in_float32
@torch.no_grad()
def sharpen(probabilities: Tensor, power: float = 2.0) -> Tensor:
    """p^power / f_c, renormalised, f_c the mass of class c in the batch of all processes (COSINE, 2010.07835): ``[B, C]`` -> ``[B, C]``.

    Raises confidence and, by f_c, holds back classes that are predicted often.
    """
    mass = collective.total(probabilities.sum(0))
    weight = probabilities**power / mass.clamp_min(torch.finfo(mass.dtype).tiny)
    return weight / weight.sum(-1, keepdim=True)


@in_float32
def entropy(probabilities: Tensor) -> Tensor:
    """-sum p log p in nats: ``[..., C]`` -> ``[...]``. Its mean over samples is the predictive-entropy score."""
    return torch.special.entr(probabilities).sum(-1)


@torch.no_grad()
def lead(probabilities: Tensor) -> Tensor:
    """How far the most probable class leads the second: ``[B, C]`` -> ``[B]`` in [0, 1]. Small where a model wavers (active learning by margin)."""
    first, second = probabilities.topk(2, -1).values.unbind(-1)
    return first - second


@torch.no_grad()
def certainty(probabilities: Tensor) -> Tensor:
    """1 - entropy / log C, 0 for uniform and 1 for one-hot (COSINE's sample weight, 2010.07835): ``[B, C]`` -> ``[B]``."""
    return 1 - entropy(probabilities) / math.log(probabilities.shape[-1])


@torch.no_grad()
def pseudo_labels(probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Most probable class int64 ``[B]`` and whether its probability reaches ``threshold`` bool ``[B]`` (FixMatch, 2001.07685, eq. 4), of ``[B, C]``."""
    confidence, labels = probabilities.max(-1)
    return labels, confidence >= threshold


def select_top(confidence: Tensor, fraction: float) -> Tensor:
    """The most confident ``fraction`` of all samples (curriculum labelling, 2001.06001, algorithm 1): ``[N]`` -> bool ``[N]``.

    A threshold at a percentile, so equal confidences are taken or left together: saturated ones are not cut by their place in the file.
    """
    return select_balanced(confidence, torch.zeros_like(confidence, dtype=torch.int64), 1, fraction)


def select_balanced(confidence: Tensor, labels: Tensor, classes: int, fraction: float) -> Tensor:
    """The most confident ``fraction`` within every predicted class, at least one of each (CBST, 1810.07911): ``[N]``, ``[N]`` -> bool ``[N]``."""
    return confidence >= class_thresholds(confidence, labels, classes, fraction)[labels]


def select_most(confidence: Tensor, labels: Tensor, classes: int, count: int) -> Tensor:
    """The ``count`` most confident samples of every predicted class, all where there are fewer: ``[N]``, int64 ``[N]`` -> bool ``[N]``. Of equals the first."""
    order = confidence.argsort(descending=True, stable=True)
    rank = torch.nn.functional.one_hot(labels[order], classes).cumsum(0).gather(1, labels[order].unsqueeze(1)).squeeze(1)
    return torch.zeros_like(labels, dtype=torch.bool).scatter(0, order, rank <= count)


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """N / (K n_c) for a sample of class c, which n_c of the N samples have, K classes being there: int64 ``[N]`` -> ``[N]``.

    The mean is 1, and every class is as heavy as another.
    """
    count = torch.bincount(labels, minlength=classes)
    return len(labels) / ((count > 0).sum() * count[labels].float())


def class_thresholds(confidence: Tensor, labels: Tensor, classes: int, fraction: float) -> Tensor:
    """The confidence that the top ``fraction`` of the samples labelled c reach, inf where there are none: ``[N]``, int64 ``[N]`` -> ``[classes]``."""
    thresholds = torch.full((classes,), float("inf"), dtype=confidence.dtype, device=confidence.device)
    for c in torch.unique(labels).tolist():
        own = confidence[labels == c].sort(descending=True).values
        thresholds[c] = own[max(math.ceil(fraction * len(own) - 1e-9), 1) - 1]
    return thresholds


@in_float32
@torch.no_grad()
def two_groups(values: Tensor) -> Tensor:
    """The smallest of the upper ones, where ``values`` ``[N]`` are cut in two so that the variance within both, weighted by size, is least: a scalar.

    Otsu's threshold (IEEE Trans. SMC 9(1), 1979), over every cut there is instead of a grid. Infinite where there are no two different values.
    """
    x = values.double().sort().values
    n, sums = len(x), x.cumsum(0)
    below = torch.arange(1, n, device=x.device)
    # What is left of the sum of squares when both means are taken out, up to the total, which is the same for all cuts.
    between = sums[:-1].square() / below + (sums[-1:] - sums[:-1]).square() / (n - below)
    between = between.masked_fill(x[1:] == x[:-1], float("-inf"))
    if n < 2 or bool(between.isneginf().all()):
        return values.new_full((), float("inf"))
    return x[1:][between.argmax()].to(values.dtype)


@in_float32
@torch.no_grad()
def among(probabilities: Tensor, candidates: Tensor) -> Tensor:
    """``probabilities`` over the candidates alone, scaled to sum 1, even where all of these have none (PRODEN, 2002.08053): ``[B, C]``, bool ``[B, C]``."""
    left = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny) * candidates
    return left / left.sum(-1, keepdim=True)


@torch.no_grad()
def purified(weights: Tensor, candidates: Tensor, margin: Tensor | float) -> Tensor:
    """The candidates that trail the likeliest one by less than ``margin`` > 0 (POP, 2206.00830): weights ``[B, C]``, bool ``[B, C]`` -> bool ``[B, C]``."""
    return candidates & (weights.amax(-1, keepdim=True) - weights < margin)


@in_float32
@torch.no_grad()
def disagreement(probabilities: Tensor) -> Tensor:
    """sqrt(1/M sum_m |p_m - mean|^2) of M answers to the same samples (ViDA, 2306.04344, equation 4): ``[M, B, C]`` -> ``[B]``."""
    return (probabilities - probabilities.mean(0)).square().sum(-1).mean(0).sqrt()


@torch.no_grad()
def allotment(uncertainty: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Factors of the high-rank and the low-rank branch (ViDA, 2306.04344, equation 5): 1 + u and 1 - u from ``threshold``, the other way round below: ``[B]``."""
    signed = torch.where(uncertainty >= threshold, uncertainty, -uncertainty)
    return 1 + signed, 1 - signed
