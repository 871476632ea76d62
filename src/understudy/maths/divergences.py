"""Distances between what a student says and what it is told. Every function returns one number per sample, ``[B]``, without reduction.

Where both sides are logits the arguments are keywords (``teacher_logits=``, ``student_logits=``), because a divergence with its sides exchanged
also trains. A stored distribution enters as its logarithm: ``teacher_logits=probabilities.log()``. A class may be ruled out by -inf.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from understudy import collective
from understudy.maths.precision import in_float32

Tail = Literal["uniform", "zero", "renormalise"]


def _finite(logs: Tensor) -> Tensor:
    """-inf as a finite number that still has probability 0, so that 0 * log 0 is 0 and so is its gradient."""
    return logs.clamp_min(torch.finfo(logs.dtype).min / 2)


def _log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(_finite(logits), -1)


def _cross_entropy(target: Tensor, log_prediction: Tensor) -> Tensor:
    return -(target * log_prediction).sum(-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum p (log p - log q) over the last dimension. PyTorch takes the two sides the other way round."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


@in_float32
def soft_cross_entropy(student_logits: Tensor, target: Tensor) -> Tensor:
    """-sum_c target_c log softmax(student_logits)_c: ``[..., C]``, probabilities ``[..., C]`` -> ``[...]``. The target gets no gradient."""
    return _cross_entropy(target.detach(), _log_softmax(student_logits))


@in_float32
def flipped_cross_entropy(student_logits: Tensor, target: Tensor) -> Tensor:
    """-sum_c softmax(student_logits)_c log target_c (TeSLA, 2303.09870, equation 2): ``[..., C]`` twice -> ``[...]``. The target gets no gradient.

    Bounded in the student, and with its entropy it is KL(student || target); probabilities below 1e-8 count as that.
    """
    return _cross_entropy(student_logits.softmax(-1), target.detach().clamp_min(1e-8).log())


@in_float32
def kl(*, teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0, scale: bool = True) -> Tensor:
    """KL(teacher || student) of the softmaxes at ``temperature``: ``[..., C]`` -> ``[...]``.

    ``scale`` multiplies by temperature^2 so that the gradient keeps its size (Hinton, Vinyals and Dean, 1503.02531, section 2): never multiply again outside.
    """
    log_p = _log_softmax(teacher_logits.detach() / temperature)
    return _kl(log_p, _log_softmax(student_logits / temperature)) * (temperature**2 if scale else 1.0)


@in_float32
def reverse_kl(*, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(student || teacher), mode seeking: ``[..., C]`` -> ``[...]``. Unbounded where the student gives mass to a class the teacher rules out."""
    return _kl(_log_softmax(student_logits), _log_softmax(teacher_logits.detach()))


@in_float32
def jsd(*, teacher_logits: Tensor, student_logits: Tensor, beta: float = 0.5) -> Tensor:
    """Generalised Jensen-Shannon divergence beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q, p the teacher, q the student.

    0 < beta < 1; divided by beta it tends to KL(p || q) as beta -> 0 (Agarwal et al., GKD, 2306.13649). ``[..., C]`` -> ``[...]``.
    """
    log_p, log_q = _log_softmax(teacher_logits.detach()), _log_softmax(student_logits)
    middle = beta * log_p.exp() + (1 - beta) * log_q.exp()
    log_m = middle.clamp_min(torch.finfo(middle.dtype).tiny).log()  # a class that both rule out must not give 0 * inf in the gradient
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


@in_float32
def symmetric_cross_entropy(*, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """-1/2 sum q log p - 1/2 sum p log q with p the student and q the teacher (RMT, 2211.13081): ``[B, C]`` -> ``[B]``."""
    log_p, log_q = _log_softmax(student_logits), _log_softmax(teacher_logits.detach())
    return 0.5 * _cross_entropy(log_q.exp(), log_p) + 0.5 * _cross_entropy(log_p.exp(), log_q)


def _without(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(-1, labels.unsqueeze(-1), float("-inf"))


def _at(values: Tensor, labels: Tensor) -> Tensor:
    return values.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


@in_float32
def nkd(*, teacher_logits: Tensor, student_logits: Tensor, labels: Tensor, gamma: float = 1.5, temperature: float = 1.0) -> Tensor:
    """Normalised KD without the label's own cross-entropy (Yang et al., 2303.13005): logits ``[B, C]``, labels int64 ``[B]`` -> ``[B]``.

    -T_y log S_y at temperature 1, plus gamma temperature^2 times the cross-entropy between the distributions over the OTHER classes, each softmaxed
    anew without the target's logit at ``temperature``. ImageNet: gamma 1.5, temperature 1; CIFAR-100: 3.5 and 3.
    """
    teacher = teacher_logits.detach()
    target = -_at(teacher.softmax(-1), labels) * _at(_log_softmax(student_logits), labels)
    # A teacher that rules out every other class says nothing about them: its 0 / 0 counts as no mass.
    rest = (_without(teacher, labels) / temperature).softmax(-1).nan_to_num(0.0)
    others = _cross_entropy(rest, _log_softmax(_without(student_logits, labels) / temperature))
    return target + gamma * temperature**2 * others


@in_float32
def zipf_labels(student_logits: Tensor, weak_logits: Tensor, labels: Tensor) -> Tensor:
    """Soft labels over the non-target classes, by rank only (USKD, 2303.13005): ``[B, C]`` twice, ``[B]`` -> ``[B, C]``, 0 at the target.

    Classes are ranked by student plus weak probability, each divided by its non-target mass; rank r gets 1/r, the target is dropped and the rest
    sums to one. (The released code ranks by the student's LOG-probability, overwriting a variable; the paper's probabilities are used here.)
    """
    with torch.no_grad():
        student, weak = student_logits.softmax(-1), weak_logits.softmax(-1)
        score = student / (1 - _at(student, labels) + 1e-6).unsqueeze(-1) + weak / (1 - _at(weak, labels) + 1e-6).unsqueeze(-1)
        rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        zipf = (1.0 / (rank + 1).to(student.dtype)).scatter(-1, labels.unsqueeze(-1), 0.0)
        return zipf / zipf.sum(-1, keepdim=True)


@in_float32
def uskd(*, student_logits: Tensor, weak_logits: Tensor, labels: Tensor, alpha: float = 1.0, beta: float = 0.1) -> Tensor:
    """Self-distillation without a teacher (USKD, 2303.13005), without label and weak-head cross-entropy: ``[B, C]`` twice, ``[B]`` -> ``[B]``.

    alpha times -P_y log S_y with P_y = sg(S_y^2 + 1 - mean of S_y^2 over the batch of all processes), plus beta times the cross-entropy of
    ``zipf_labels`` with the student renormalised over the non-target classes. ImageNet: alpha 1, beta 0.1; CIFAR-100: alpha 0.1.
    """
    log_s = _at(_log_softmax(student_logits), labels)
    square = log_s.detach().exp().square()
    target = (square + 1 - collective.mean(square)) * -log_s
    others = _cross_entropy(zipf_labels(student_logits, weak_logits, labels), _log_softmax(_without(student_logits, labels)))
    return alpha * target + beta * others


@in_float32
def expand_topk(indices: Tensor, probabilities: Tensor, classes: int, tail: Literal["uniform", "zero"]) -> Tensor:
    """A stored top-k distribution over all ``classes``: indices int64 and probabilities ``[B, k]`` -> ``[B, classes]``, summing to one.

    ``uniform`` spreads the missing mass evenly over the other classes, ``zero`` rescales the k to one (FKD's marginal smoothing and re-norm, 2112.01528).
    """
    k = indices.shape[-1]
    mass = probabilities.sum(-1, keepdim=True)
    if tail == "zero" or k == classes:
        return probabilities.new_zeros(*indices.shape[:-1], classes).scatter(-1, indices, probabilities / mass)
    rest = ((1 - mass) / (classes - k)).clamp_min(0.0)  # stored in float16 the k can sum to a little over one
    return rest.expand(*indices.shape[:-1], classes).scatter(-1, indices, probabilities)


@in_float32
def topk_kl(*, indices: Tensor, probabilities: Tensor, student_logits: Tensor, tail: Tail) -> Tensor:
    """KL(teacher || student) where only the teacher's k largest probabilities are known: ``[B, k]``, ``[B, k]``, ``[B, C]`` -> ``[B]``.

    ``uniform`` and ``zero`` complete the teacher as ``expand_topk`` does and compare with the student over all classes; ``renormalise`` compares both
    over the k classes alone, and so says nothing about the student's mass elsewhere. All three vanish only where the compared distributions agree.
    """
    if tail == "renormalise":
        log_p = (probabilities / probabilities.sum(-1, keepdim=True)).detach().log()
        return _kl(_finite(log_p), _log_softmax(student_logits.gather(-1, indices)))
    target = expand_topk(indices, probabilities, student_logits.shape[-1], tail).detach()
    return _kl(_finite(target.log()), _log_softmax(student_logits))


@in_float32
def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """||student - sg(teacher)||^2 SUMMED over all features, as SDFP writes it (2210.02871): ``[B, ...]`` -> ``[B]``. Grows with the width."""
    return (student - teacher.detach()).square().flatten(1).sum(-1)


@in_float32
def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of the angle between ``student`` and sg(``teacher``): ``[..., D]`` -> ``[...]`` in 0..2."""
    return 1 - F.cosine_similarity(student, teacher.detach(), dim=-1)


@in_float32
def without_constant(tokens: Tensor) -> Tensor:
    """Tokens ``[B, T, D]`` less their mean over the T places -> ``[B, T, D]``.

    What the inverse of a two-dimensional discrete cosine transform over the places gives once the constant coefficient is set to 0 (ScaleKD, 2411.06786, section 3.2).
    """
    return tokens - tokens.mean(1, keepdim=True)


@in_float32
def layer_distance(student: Tensor, teacher: Tensor, cosine: float = 1.0) -> Tensor:
    """mean_d |student - teacher| - ``cosine`` log sigmoid(cos(student, teacher)) (DistilHuBERT, 2110.01900, equation 1): ``[..., D]`` -> ``[...]``."""
    teacher = teacher.detach()
    return (student - teacher).abs().mean(-1) - cosine * F.logsigmoid(F.cosine_similarity(student, teacher, dim=-1))
