"""Contrast: near to one's own other views, away from everything else in the batch of all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import collective
from understudy.maths.divergences import soft_cross_entropy
from understudy.maths.precision import in_float32


@in_float32
def info_nce(views: Sequence[Tensor], temperature: float) -> Tensor:
    """InfoNCE over V >= 2 views ``[B, D]`` of the same samples, coupled: a scalar.

    The positives of a vector are the other views of its sample, everything but itself is in the denominator, the mean is over positives outside the
    logarithm (SupCon's L_out, 2004.11362, eq. 2; RMT's contrastive term with V = 3, 2211.13081). Vectors are L2-normalised here.
    """
    z = torch.cat([F.normalize(collective.gather(v), dim=-1) for v in views])
    count, batch = len(views), len(z) // len(views)
    similarity = z @ z.T / temperature
    of_the_sample = similarity.view(count, batch, count, batch).diagonal(dim1=1, dim2=3)  # [V, V, B]
    positive = (of_the_sample.sum() - of_the_sample.diagonal().sum()) / (count * (count - 1) * batch)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    return similarity.masked_fill(itself, float("-inf")).logsumexp(-1).mean() - positive


def nt_xent(za: Tensor, zb: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss of two views (2002.05709, eq. 1), the two-view case of ``info_nce``: ``[B, D]`` twice -> scalar."""
    return info_nce((za, zb), temperature)


@in_float32
def matched_pairs(a: Tensor, b: Tensor, scale: Tensor | float) -> Tensor:
    """CLIP's loss (2103.00020, figure 3), coupled: ``[B, D]`` twice, the factor of their cosines -> scalar.

    The mean of both cross-entropies over the batch of all processes: of every a among all b, and of every b among all a. Vectors are L2-normalised here.
    """
    # Scaled before they are gathered, so that each process contributes its own part to the gradient of a learned scale.
    a, b = collective.gather(scale * F.normalize(a, dim=-1)), collective.gather(F.normalize(b, dim=-1))
    logits = a @ b.T
    own = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@in_float32
def mimicked_pairs(a: Tensor, b: Tensor, scale: Tensor | float, *, teacher: tuple[Tensor, Tensor], teacher_scale: Tensor | float) -> Tensor:
    """TinyCLIP's affinity mimicking (2309.12314, equations 1 to 3), coupled: ``[B, D]`` twice, the factor of their cosines, the teacher's likewise -> scalar.

    The mean of both soft cross-entropies over the batch of all processes: of every a's shares among all b from those that the teacher gives, softmax of its scaled
    cosines, and of every b's among all a. Vectors are L2-normalised here; the teacher's may have another width.
    """
    a, b = collective.gather(scale * F.normalize(a, dim=-1)), collective.gather(F.normalize(b, dim=-1))
    c, d = collective.gather(teacher_scale * F.normalize(teacher[0], dim=-1)), collective.gather(F.normalize(teacher[1], dim=-1))
    logits, told = a @ b.T, (c @ d.T).detach()
    return (soft_cross_entropy(logits, told.softmax(-1)) + soft_cross_entropy(logits.T, told.T.softmax(-1))).mean() / 2


@in_float32
def margin_pairs(
    a: Tensor, b: Tensor, same: Tensor, weights: Tensor | None = None, *, margin: float = 1.0, distance: Literal["cosine", "squared"] = "cosine"
) -> Tensor:
    """COSINE's contrast of confident pairs (2010.07835): ``[P, D]`` twice, bool ``[P]``, weights ``[P]`` -> ``[P]``.

    d^2 for a pair of the same pseudo-label, max(0, margin - d)^2 otherwise; d is 1 - cosine or ||a - b||^2 / D.
    """
    d = 1 - F.cosine_similarity(a, b, dim=-1) if distance == "cosine" else (a - b).square().mean(-1)
    loss = torch.where(same, d, (margin - d).clamp_min(0.0)).square()
    return loss if weights is None else loss * weights.detach()


@in_float32
def class_pairs(z: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cosine 1 within classes and 0, or less, between them, over all pairs of the batch, coupled: ``[B, D]``, int64 ``[B]``, weights ``[B]`` -> scalar.

    The mean of w_i w_j (1 - cos)^2 over pairs of one class plus the mean of w_i w_j max(0, cos)^2 over the others: SetFit's squared error of the cosine
    (2209.11055, section 3.1), with as much weight on both kinds of pairs as its sampling gives them. A kind without pairs gives 0.
    """
    z, labels = collective.gather(z), collective.gather(labels)
    w = torch.ones_like(z[:, 0]) if weights is None else collective.gather(weights)
    i, j = torch.triu_indices(len(z), len(z), 1, device=z.device)
    same = labels[i] == labels[j]
    losses = margin_pairs(z[i], z[j], same, w[i] * w[j])
    return sum((losses * kind).sum() / kind.sum().clamp_min(1) for kind in (same, ~same))  # type: ignore[return-value]


@in_float32
def koleo(z: Tensor, eps: float = 1e-4) -> Tensor:
    """-mean log distance to the nearest neighbour on the unit sphere, coupled (KoLeo, 1806.03198; DINOv2, 2304.07193): ``[B, D]`` -> scalar.

    The distance enters as sqrt(d^2 + eps^2): exact duplicates give log eps and no gradient instead of infinity, and near ones a gradient of at most
    1 / (2 eps). One sample has no neighbour and gives 0.
    """
    z = F.normalize(collective.gather(z), dim=-1)
    if len(z) == 1:
        return z.sum() * 0.0
    with torch.no_grad():
        nearest = (z @ z.T).fill_diagonal_(-2.0).argmax(-1)
    return -0.5 * ((z - z[nearest]).square().sum(-1) + eps**2).log().mean()


@in_float32
def leave_one_out(query: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, others: Tensor, k: int, temperature: float) -> Tensor:
    """-log of the weighted vote for the own label by the k nearest OTHER samples (LOOK, 2110.06014, section 3.2): ``[B, D]``, ``[B]``, ... -> ``[B]``.

    ``bank`` ``[M, D]`` with labels ``[M]`` holds the neighbours, without gradient; ``others`` bool ``[B, M]`` is false for the sample itself, in whatever older
    copy, and for empty places. Weights are exp(cosine / temperature) over the k nearest. Where none of these has the label, the nearest that does
    joins them; where none in the bank does the loss is 0.
    """
    similarity = F.normalize(query, dim=-1) @ F.normalize(bank.detach(), dim=-1).T / temperature
    similarity = similarity.masked_fill(~others, float("-inf"))
    same = (labels[:, None] == bank_labels) & others
    kth = similarity.topk(min(k, similarity.shape[1]), dim=-1).values[:, -1:].detach()
    right = similarity.masked_fill(~same, float("-inf"))
    near, best = (similarity >= kth) & others, right.amax(-1, keepdim=True).detach()
    counted = near | (same & (similarity >= best) & ~(near & same).any(-1, keepdim=True))
    known = same.any(-1)
    lowest = torch.finfo(similarity.dtype).min
    votes = similarity.masked_fill(~(counted & same), lowest).logsumexp(-1)
    everything = similarity.masked_fill(~counted, lowest).logsumexp(-1)
    return torch.where(known, everything - votes, 0.0)
