"""Assigning samples to prototypes and clusters, and the losses on such assignments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import collective, keyed
from understudy.maths.divergences import soft_cross_entropy
from understudy.maths.precision import in_float32
from understudy.maths.reconstruction import masked_mean


@in_float32
@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Assignment probabilities in which every prototype gets the same mass over the batch of all processes: ``[B, K]`` -> ``[B, K]``, rows sum to one.

    SwAV (2006.09882, section 3.1) as DINOv2 uses it, in logarithms: DINOv2's exp(logits / 0.04) overflows float32 from a logit of 3.6 on. Processes
    may hold different B >= 1 (masked tokens).
    """
    log_q = logits / temperature
    for _ in range(iterations):
        peak = collective.agree(log_q.amax(0))
        log_q = log_q - peak - collective.total((log_q - peak).exp().sum(0)).log()
        log_q = F.log_softmax(log_q, -1)
    return log_q.exp()


@in_float32
@torch.no_grad()
def centred_softmax(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """softmax((logits - centre) / temperature), the teacher of DINO (2104.14294, section 3.1): ``[..., K]``, ``[K]`` -> ``[..., K]``."""
    return ((logits - centre) / temperature).softmax(-1)


@in_float32
@torch.no_grad()
def updated_centre(centre: Tensor, logits: Tensor, momentum: float = 0.9) -> Tensor:
    """momentum centre + (1 - momentum) mean teacher logit over the batch of all processes (DINO, eq. 4): ``[K]``, ``[..., K]`` -> new ``[K]``."""
    return torch.lerp(collective.mean(logits.flatten(0, -2)), centre, momentum)


@in_float32
def dino_loss(student_logits: Sequence[Tensor], teacher_probs: Sequence[Tensor], student_temperature: float = 0.1) -> Tensor:
    """Mean cross-entropy over all pairs of a teacher view and a DIFFERENT student view: lists of ``[B, K]`` -> ``[B]`` (DINO, eq. 3; DINOv2's pair count).

    The first ``len(teacher_probs)`` student views are the teacher's (global) views in the same order; the others are local.
    """
    pairs = len(teacher_probs) * (len(student_logits) - 1)
    everything = torch.stack(list(teacher_probs)).sum(0)
    losses = []
    for i, logits in enumerate(student_logits):
        # Cross-entropy is linear in its target, so the teacher views are added up first and each student view costs one pass.
        target = everything - teacher_probs[i] if i < len(teacher_probs) else everything
        losses.append(soft_cross_entropy(logits / student_temperature, target))
    return torch.stack(losses).sum(0) / pairs


@in_float32
def ibot_loss(student_logits: Tensor, teacher_probs: Tensor, masked: Tensor, student_temperature: float = 0.1) -> Tensor:
    """Cross-entropy of the student's hidden tokens with the teacher's visible ones: ``[B, T, K]`` twice, bool ``[B, T]`` -> ``[B]``.

    Mean over a sample's masked tokens. iBOT (2111.07832). A sample without masked tokens gives 0 and still counts in the batch mean, as in DINOv2.
    """
    return masked_mean(soft_cross_entropy(student_logits / student_temperature, teacher_probs), masked)


@in_float32
@torch.no_grad()
def kmeans(points: Tensor, clusters: int, key: int, iterations: int = 50) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from a keyed k-means++ start: ``[N, D]`` -> (cluster of each point int64 ``[N]``, centroids ``[clusters, D]``).

    Stops when no point changes its cluster. A cluster that loses all its points moves to the point farthest from its centroid. Uses O(N clusters)
    memory. Raises ValueError for more clusters than points.
    """
    if clusters > len(points):
        raise ValueError(f"cannot make {clusters} clusters of {len(points)} points")
    offset = points.mean(0)
    points = points - offset  # distances by expanding the square lose digits far from the origin
    centroids = _plus_plus(points, clusters, key)
    assignment = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    for _ in range(iterations):
        distance = centroids.square().sum(-1) - 2 * points @ centroids.T  # squared, less each point's own square
        shortest, nearest = distance.min(-1)
        if torch.equal(nearest, assignment):
            break
        assignment = nearest
        members = F.one_hot(assignment, clusters).to(points.dtype)  # a matrix product adds in a fixed order, index_add on CUDA does not
        count = members.sum(0)
        centroids = members.T @ points / count.clamp_min(1.0).unsqueeze(-1)
        empty = (count == 0).nonzero().squeeze(-1)
        if len(empty):
            centroids[empty] = points[(shortest + points.square().sum(-1)).topk(len(empty)).indices]
    return assignment, centroids + offset


def aligned(centroids: Tensor, means: Tensor, there: Tensor) -> Tensor:
    """The class that each cluster belongs to, the one whose mean is nearest to its centroid (M3S, 1902.11038, section 3.3): ``[M, D]``, ``[C, D]`` -> int64 ``[M]``.

    ``there`` bool ``[C]``: which classes have a mean.
    """
    return torch.cdist(centroids, means).masked_fill(~there, torch.inf).argmin(-1)


def _plus_plus(points: Tensor, clusters: int, key: int) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii, 2007): each next centre is drawn with probability proportional to its squared distance to the nearest one so far."""
    index = torch.arange(len(points), device=points.device)
    centres = [points[int(keyed.integers(key, len(points), (1,)))]]
    distance = torch.full_like(points[:, 0], float("inf"))
    for i in range(1, clusters):
        distance = torch.minimum(distance, (points - centres[-1]).square().sum(-1))
        # A race of exponential waiting times with these rates is won with these probabilities; no cumulative sum, whose rounding depends on the device.
        waiting = -keyed.uniform(keyed.fold(key, i, index)).clamp_min(2.0**-25).log() / distance
        centres.append(points[waiting.argmin()])
    return torch.stack(centres)


@in_float32
@torch.no_grad()
def bag_of_words(features: Tensor, words: Tensor, width: Tensor, inverse: float) -> tuple[Tensor, Tensor]:
    """Which visual words an image holds: ``[B, T, D]``, ``[K, D]`` -> (bag ``[B, K]``, rows summing to one; mean squared distance to the nearest word, 0-d).

    Every local feature is assigned softly, softmax over words of -inverse |f - w|^2 / ``width``, ``width`` a typical squared distance (0-d); a word is in the bag
    as much as its surest place says (OBoW, 2012.11552, section 3.2). The mean is over the batch of all processes.
    """
    distance = torch.cdist(features, words.expand(len(features), -1, -1)).square()
    codes = (-inverse * distance / width).softmax(-1).amax(1)
    return codes / codes.sum(-1, keepdim=True), collective.mean(distance.amin(-1).mean(-1))
