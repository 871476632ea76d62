"""A linear map to 128,256 words and a divergence over it, 8,192 tokens of width 4,096 in bfloat16, forward and backward: milliseconds, and bytes beyond inputs and gradients.

Before that, gradients of a smaller shape against float64. This has never run on a GPU; docs/performance.md has what is expected of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bench.gpu.crops import milliseconds
from understudy import maths

TOKENS, WIDTH, WORDS = 8192, 4096, 128_256


def measure() -> Iterator[tuple[str, float, str, str]]:
    yield "largest relative error of a gradient", error(), "of float64's norm", "<= 0.01"
    states, weights = given(TOKENS, WIDTH, WORDS, torch.bfloat16)
    teacher = [x.detach() for x in given(TOKENS, WIDTH, WORDS, torch.bfloat16)]
    indices = torch.randint(WORDS, (TOKENS, 50), device="cuda")
    probabilities = torch.rand(TOKENS, 50, device="cuda").softmax(1)
    ways: dict[str, tuple[Callable[[], Tensor], str, str]] = {
        name: (lambda name=name: dense(states, weights, *teacher, name), "<= 60", "<= 2.5")  # type: ignore[misc]
        for name in ("forward", "reverse", "jsd")
    }
    ways["stored top 50"] = (
        lambda: maths.fused_topk_kl(states, weights, indices=indices, probabilities=probabilities, tail="uniform").sum(), "<= 45", "<= 1.5",
    )  # fmt: skip
    for name, (way, time, memory) in ways.items():

        def both(way: Callable[[], Tensor] = way) -> None:
            states.grad = weights.grad = None
            way().backward()

        yield f"{name}, forward and backward", milliseconds(both), "ms", time
        states.grad = weights.grad = None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way().backward()
        yield f"{name}, beyond what was there", (torch.cuda.max_memory_allocated() - before) / 1e9, "GB", memory


def given(tokens: int, width: int, words: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    states = 2 * torch.randn(tokens, width, generator=generator, device="cuda")
    weights = torch.randn(words, width, generator=generator, device="cuda") * width**-0.5
    return states.to(kind).requires_grad_(), weights.to(kind).requires_grad_()


def dense(states: Tensor, weights: Tensor, teacher_states: Tensor, teacher_weights: Tensor, name: str) -> Tensor:
    return maths.fused_divergence(states, weights, teacher_hidden=teacher_states, teacher_weight=teacher_weights, divergence=name).sum()  # type: ignore[arg-type]


def error() -> float:
    """Of bfloat16 against float64, both on the device."""
    worst = 0.0
    for name in ("forward", "reverse", "jsd"):
        half = given(512, 256, 8000, torch.bfloat16)
        exact = [x.detach().double().requires_grad_() for x in half]
        for pair in (half, exact):
            dense(*pair, pair[0].detach().flip(0), pair[1].detach(), name).backward()
        for one, other in zip(half, exact, strict=True):
            assert one.grad is not None and other.grad is not None
            worst = max(worst, float((one.grad.double() - other.grad).norm() / other.grad.norm()))
    return worst
