"""A linear map to a vocabulary and a divergence over it, without ever holding tokens x vocabulary.

Tokens go through in chunks. Of each chunk the logits are computed, normalised exactly, turned into the loss and, in place, into its gradient, which goes into the gradients of
hidden states and weights at once (the idea of Liger-Kernel's chunked losses, 2410.10989, section 3.2, but for float32 logits and sums). The backward pass only multiplies. That
needs the factors of the tokens beforehand: ``weights``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from understudy.maths.divergences import Tail

Divergence = Literal["forward", "reverse", "jsd"]
Target = Callable[[slice, Tensor], Tensor]
"""Losses ``[n]`` of the tokens of a slice, whose float32 logits ``[n, V]`` it replaces by their gradient."""

_COLUMNS = 8192
"""Words of the vocabulary that elementwise work looks at together, so that its intermediate results are small."""
_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits of one chunk."""


def fused_divergence(
    hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, teacher_hidden: Tensor, teacher_weight: Tensor, teacher_bias: Tensor | None = None,
    divergence: Divergence = "forward", beta: float = 0.5, temperature: float = 1.0, weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """``weights`` times the divergence of teacher and student at every token: ``[N, D]``, ``[V, D]``, ``[V]``, ``[N, E]``, ``[V, E]``, ``[V]`` -> ``[N]``.

    ``forward`` is ``kl`` with its temperature^2, ``reverse`` is ``reverse_kl`` and ``jsd`` is ``jsd`` of the logits hidden @ weight.T + bias. Gradients go to ``hidden``, ``weight`` and
    ``bias``. In half precision matrices are multiplied in it, sums of gradients and everything on logits are float32. Raises ValueError where the vocabularies differ:
    cut the larger one, since padding with zeros gives the padding probability.
    """
    if len(weight) != len(teacher_weight):
        raise ValueError(f"the student's vocabulary has {len(weight)} words and the teacher's {len(teacher_weight)}: cut the larger one")
    target = _Dense(teacher_hidden.detach(), teacher_weight.detach(), None if teacher_bias is None else teacher_bias.detach(), divergence, beta, temperature)
    return _Fused.apply(hidden, weight, bias, _ones(hidden) if weights is None else weights, target)  # type: ignore[no-any-return, no-untyped-call]


def fused_topk_kl(
    hidden: Tensor, weight: Tensor, bias: Tensor | None = None, *, indices: Tensor, probabilities: Tensor, tail: Tail, weights: Tensor | None = None
) -> Tensor:
    """``weights`` times ``topk_kl`` of the logits hidden @ weight.T + bias: ``[N, D]``, ``[V, D]``, ``[V]``, int64 ``[N, k]``, ``[N, k]`` -> ``[N]``.

    A place with probability 0 is empty, whatever its index. Only the student's logits are computed. Gradients as in ``fused_divergence``.
    """
    target = _Sparse(indices, probabilities.detach().float(), tail)
    return _Fused.apply(hidden, weight, bias, _ones(hidden) if weights is None else weights, target)  # type: ignore[no-any-return, no-untyped-call]


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, weights: Tensor, target: Target) -> Tensor:
        ctx.wanted = ctx.needs_input_grad[:3]
        losses, gradients = _swept(hidden, weight, bias, weights, target, ctx.wanted)
        ctx.save_for_backward(hidden, weight, bias, weights, *gradients)
        ctx.target = target
        return losses * weights

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, bias, weights, *gradients = ctx.saved_tensors
        if not len(factor):
            return (*gradients, None, None)
        alike = (factor == factor[0]).all()
        if factor.device.type == "cuda":  # asking would stall the device
            torch._assert_async(alike, "a fused divergence must be summed as it is: give the factors of its tokens as weights")
        elif not alike:
            _, gradients = _swept(hidden, weight, bias, weights * factor, ctx.target, ctx.wanted)
            return (*gradients, None, None)
        return (*(None if gradient is None else gradient * factor[0].to(gradient.dtype) for gradient in gradients), None, None)


def _swept(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, weights: Tensor, target: Target, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Losses ``[N]`` without weights, and the gradients of their weighted sum that are wanted."""
    wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    losses = torch.empty(len(hidden), dtype=wide, device=hidden.device)
    sums = [torch.zeros_like(x, dtype=wide) if x is not None and need else None for x, need in zip((hidden, weight, bias), wanted, strict=True)]
    to_hidden, to_weight, to_bias = sums
    step = max(1, _ELEMENTS[hidden.device.type if hidden.device.type in _ELEMENTS else "cpu"] // len(weight))
    with torch.autocast(hidden.device.type, enabled=False):
        weight = weight.to(hidden.dtype)
        for start in range(0, len(hidden), step):
            rows = slice(start, start + step)
            logits = _projected(hidden[rows], weight, bias)
            losses[rows] = target(rows, logits)
            if any(wanted):
                logits *= weights[rows, None]
            if to_hidden is not None:
                to_hidden[rows] = _product(logits, weight)
            if to_weight is not None:
                _add_product(to_weight, logits, hidden[rows])
            if to_bias is not None:
                to_bias += logits.sum(0)
    return losses, [None if s is None else s.to(x.dtype) for s, x in zip(sums, (hidden, weight, bias), strict=True)]  # type: ignore[union-attr]


def _projected(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """hidden @ weight.T + bias, in float32 even of half precision."""
    if hidden.dtype in (torch.float32, torch.float64):
        logits = hidden @ weight.T
    elif hidden.device.type == "cuda":
        logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
    else:
        logits = torch.cat([hidden.float() @ part.float().T for part in weight.split(_COLUMNS)], 1)
    return logits if bias is None else logits.add_(bias)


def _product(logits: Tensor, weight: Tensor) -> Tensor:
    """logits @ weight, summed in float32."""
    if weight.dtype == logits.dtype:
        return logits @ weight
    if logits.device.type == "cuda":
        return torch.mm(logits.to(weight.dtype), weight, out_dtype=torch.float32)
    return torch.stack([z @ w.float() for z, w in zip(logits.split(_COLUMNS, 1), weight.split(_COLUMNS), strict=True)]).sum(0)


def _add_product(to: Tensor, logits: Tensor, hidden: Tensor) -> None:
    """to += logits.T @ hidden, summed in float32."""
    if hidden.dtype == logits.dtype:
        to.addmm_(logits.T, hidden)
    elif logits.device.type == "cuda":
        to += torch.mm(logits.T.to(hidden.dtype), hidden, out_dtype=torch.float32)
    else:
        to.addmm_(logits.T, hidden.float())


def _log_normalise(logits: Tensor) -> Tensor:
    """Log-probabilities in place; returns the logarithm of the sum ``[n]``."""
    most = logits.amax(1, keepdim=True)
    total = torch.stack([(part - most).exp_().sum(1) for part in logits.split(_COLUMNS, 1)]).sum(0)
    whole = most.squeeze(1) + total.log()
    logits -= whole.unsqueeze(1)
    return whole


class _Dense:
    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, divergence: Divergence, beta: float, temperature: float):
        self.hidden, self.weight, self.bias = hidden, weight.to(hidden.dtype), bias
        self.divergence, self.beta, self.temperature = divergence, beta, temperature

    def __call__(self, rows: slice, logits: Tensor) -> Tensor:
        student, teacher = logits, _projected(self.hidden[rows], self.weight, self.bias)
        if self.temperature != 1.0:
            student /= self.temperature
            teacher /= self.temperature
        _log_normalise(student)
        _log_normalise(teacher)
        blocks = list(zip(student.split(_COLUMNS, 1), teacher.split(_COLUMNS, 1), strict=True))
        # d/dz of a divergence whose derivative by q is a: q (a - sum q a), z the logits over the temperature.
        match self.divergence:
            case "forward":
                loss = _sum(_forward(q, p) for q, p in blocks) * self.temperature**2
                return loss if self.temperature == 1.0 else (logits.mul_(self.temperature), loss)[1]
            case "reverse":
                loss = _sum((q.exp() * p.neg_().add_(q)).sum(1) for q, p in blocks)  # p holds log q - log p from here on
                for q, a in blocks:
                    q.exp_().mul_(a.sub_(loss.unsqueeze(1)))
            case _:
                own, other = _sum(torch.stack(_middle(q, p, self.beta)) for q, p in blocks)
                loss = self.beta * other + (1 - self.beta) * own
                for q, a in blocks:
                    q.exp_().mul_(a.sub_(own.unsqueeze(1))).mul_(1 - self.beta)
        if self.temperature != 1.0:
            logits /= self.temperature
        return loss


def _sum(parts: Any) -> Tensor:
    return torch.stack(list(parts)).sum(0)


def _forward(q: Tensor, p: Tensor) -> Tensor:
    """sum p (log p - log q) of some words; q becomes q - p."""
    mass = p.exp()
    loss = (mass * p.sub_(q)).sum(1)
    q.exp_().sub_(mass)
    return loss


def _middle(q: Tensor, p: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """sum q (log q - log m) and sum p (log p - log m) of some words, m the mixture; p becomes log q - log m."""
    middle = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
    other = (p.exp() * (p - middle)).sum(1)
    torch.sub(q, middle, out=p)
    return (q.exp() * p).sum(1), other


class _Sparse:
    def __init__(self, indices: Tensor, probabilities: Tensor, tail: Tail):
        self.indices, self.probabilities, self.tail = indices, probabilities, tail

    def __call__(self, rows: slice, logits: Tensor) -> Tensor:
        indices, p = self.indices[rows], self.probabilities[rows].to(logits.dtype)
        stored, mass = p > 0, p.sum(1, keepdim=True)
        others = logits.shape[1] - stored.sum(1, keepdim=True)
        if self.tail == "uniform":
            each = ((1 - mass) / others.clamp_min(1)).clamp_min(0.0)
        else:
            p, each = p / mass, torch.zeros_like(mass)
        told = torch.special.xlogy(p, p).sum(1) + (others * torch.special.xlogy(each, each)).squeeze(1)
        if self.tail == "renormalise":
            among = logits.gather(1, indices).masked_fill(~stored, torch.finfo(logits.dtype).min).log_softmax(1)
            loss = told - torch.where(stored, p * among, 0.0).sum(1)
            logits.zero_().scatter_add_(1, indices, among.exp() - p)
            return loss
        total = logits.sum(1) if self.tail == "uniform" else logits.new_zeros(len(logits))
        total -= logits.shape[1] * _log_normalise(logits)
        own = logits.gather(1, indices)
        loss = told - (p * own).sum(1) - each.squeeze(1) * (total - (own * stored).sum(1))
        logits.exp_().scatter_add_(1, indices, (each - p) * stored)
        if self.tail == "uniform":
            logits -= each
        return loss


def _ones(hidden: Tensor) -> Tensor:
    return torch.ones(len(hidden), device=hidden.device)
