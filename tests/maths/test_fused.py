from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from understudy import keyed, maths
from understudy.maths import fused

N, D, E, V = 13, 6, 9, 37


def drawn(kind: torch.dtype, *shape: int, name: str) -> Tensor:
    return keyed.normal(keyed.of_text(name), shape).to(kind)


def given(kind: torch.dtype, biased: bool, scale: float = 1.0) -> dict[str, Any]:
    values: dict[str, Any] = {
        "hidden": scale * drawn(kind, N, D, name="h").requires_grad_(),
        "weight": drawn(kind, V, D, name="w").requires_grad_(),
        "bias": drawn(kind, V, name="b").requires_grad_() if biased else None,
        "teacher_hidden": drawn(kind, N, E, name="th"),
        "teacher_weight": drawn(kind, V, E, name="tw"),
        "teacher_bias": drawn(kind, V, name="tb") if biased else None,
    }
    values["hidden"] = values["hidden"].detach().requires_grad_()
    return values


def plain(values: dict[str, Any], divergence: str, beta: float, temperature: float) -> Tensor:
    """The same through logits of all tokens, by the formulas that ``maths`` has already."""
    student, teacher = ((values[f"{who}hidden"] @ values[f"{who}weight"].T) for who in ("", "teacher_"))
    if values["bias"] is not None:
        student, teacher = student + values["bias"], teacher + values["teacher_bias"]
    if divergence == "forward":
        return maths.kl(teacher_logits=teacher, student_logits=student, temperature=temperature)
    if divergence == "reverse":
        return maths.reverse_kl(teacher_logits=teacher / temperature, student_logits=student / temperature)
    return maths.jsd(teacher_logits=teacher / temperature, student_logits=student / temperature, beta=beta)


def gradients(losses: Tensor, factor: Tensor, values: dict[str, Any]) -> list[Tensor]:
    inputs = [values[name] for name in ("hidden", "weight", "bias") if values[name] is not None]
    return list(torch.autograd.grad((losses * factor).sum(), inputs))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of tokens, the last one shorter, and several parts of the vocabulary."""
    monkeypatch.setattr(fused, "_ELEMENTS", {"cpu": 5 * V})
    monkeypatch.setattr(fused, "_COLUMNS", 8)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
@pytest.mark.parametrize(("beta", "temperature", "biased"), [(0.5, 1.0, False), (0.1, 2.0, True), (0.9, 0.5, True)])
@pytest.mark.parametrize("factors", ["one", "same", "different"])
def test_losses_and_gradients_are_those_of_whole_logits(divergence: Any, beta: float, temperature: float, biased: bool, factors: str) -> None:
    values = given(torch.float64, biased)
    weights = torch.linspace(0, 2, N, dtype=torch.float64)
    factor = {"one": torch.ones(N), "same": torch.full((N,), 0.3), "different": torch.linspace(-1, 1, N)}[factors].double()
    want = plain(values, divergence, beta, temperature)
    got = maths.fused_divergence(**values, divergence=divergence, beta=beta, temperature=temperature, weights=weights)
    assert torch.allclose(got, want * weights, atol=1e-12)
    for ours, theirs in zip(gradients(got, factor, values), gradients(want * weights, factor, values), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_gradients_are_within_one_percent_of_float64(divergence: Any, kind: torch.dtype, scale: float) -> None:
    values = given(kind, True, scale)
    exact = {name: value.detach().double().requires_grad_(value.requires_grad) for name, value in values.items()}
    got = maths.fused_divergence(**values, divergence=divergence)
    want = plain(exact, divergence, 0.5, 1.0)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), want, rtol=2e-3, atol=2e-4)
    for ours, theirs in zip(gradients(got, torch.ones(N), values), gradients(want, torch.ones(N).double(), exact), strict=True):
        assert (ours.double() - theirs).norm() <= 0.01 * theirs.norm()
        assert ours.dtype == kind


@pytest.mark.parametrize("tail", ["uniform", "zero", "renormalise"])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_a_stored_teacher_is_topk_kl(tail: Any, kind: torch.dtype) -> None:
    values = given(kind, True)
    own = {name: values[name] for name in ("hidden", "weight", "bias")}
    top, indices = drawn(torch.float32, N, V, name="p").softmax(1).topk(5)
    exact = {name: value.detach().double().requires_grad_() for name, value in own.items()}
    logits = exact["hidden"] @ exact["weight"].T + exact["bias"]
    want = maths.topk_kl(indices=indices, probabilities=top.double(), student_logits=logits, tail=tail)
    weights = torch.linspace(0.5, 2, N)
    got = maths.fused_topk_kl(**own, indices=indices, probabilities=top, tail=tail, weights=weights)
    close = {"rtol": 1e-6, "atol": 1e-6} if kind != torch.bfloat16 else {"rtol": 2e-3, "atol": 2e-4}
    assert torch.allclose(got.double(), want * weights, **close)
    for ours, theirs in zip(gradients(got, torch.ones(N), own), gradients(want * weights, torch.ones(N), exact), strict=True):
        assert (ours.double() - theirs).norm() <= (0.01 if kind == torch.bfloat16 else 1e-5) * theirs.norm()


@pytest.mark.parametrize("tail", ["uniform", "zero", "renormalise"])
def test_empty_places_of_a_stored_teacher_teach_nothing(tail: Any) -> None:
    values = given(torch.float64, False)
    own = {name: values[name] for name in ("hidden", "weight")}
    indices, p = torch.tensor([[3, 5]] * N), torch.tensor([[0.6, 0.3]] * N)
    longer = {"indices": torch.cat([indices, torch.full((N, 2), 3)], 1), "probabilities": torch.cat([p, torch.zeros(N, 2)], 1)}
    padded, bare = maths.fused_topk_kl(**own, **longer, tail=tail), maths.fused_topk_kl(**own, indices=indices, probabilities=p, tail=tail)
    assert torch.allclose(padded, bare, atol=1e-7)
    for ours, theirs in zip(*(torch.autograd.grad(losses.sum(), list(own.values())) for losses in (padded, bare)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, list | tuple) else (found,):
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return found


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("what", ["forward", "reverse", "jsd", "topk"])
def test_tokens_times_vocabulary_is_never_held(what: Any, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_ELEMENTS", {"cpu": 8 * 500})
    n, v, d = 600, 500, 4
    hidden, weight = drawn(kind, n, d, name="hidden").requires_grad_(), drawn(kind, v, d, name="weight").requires_grad_()
    with Largest() as held:
        if what == "topk":
            losses = maths.fused_topk_kl(hidden, weight, indices=torch.arange(5).repeat(n, 1), probabilities=torch.full((n, 5), 0.2), tail="uniform")
        else:
            losses = maths.fused_divergence(hidden, weight, teacher_hidden=hidden, teacher_weight=weight.flip(0), divergence=what)
        losses.sum().backward()
    assert 8 * v <= held.elements <= 9 * v < n * v / 50


def test_a_frozen_head_and_no_gradient_at_all() -> None:
    values = given(torch.float32, True)
    frozen = {**values, "weight": values["weight"].detach(), "bias": values["bias"].detach()}
    (ours,) = torch.autograd.grad(maths.fused_divergence(**frozen).sum(), frozen["hidden"])
    assert torch.allclose(ours, gradients(maths.fused_divergence(**values), torch.ones(N), values)[0])
    with torch.no_grad():
        assert torch.allclose(maths.fused_divergence(**values), maths.fused_divergence(**frozen))
    none = {**values, "hidden": values["hidden"][:0], "teacher_hidden": values["teacher_hidden"][:0]}
    maths.fused_divergence(**none).sum().backward()


def test_two_vocabularies_are_refused() -> None:
    values = given(torch.float32, False)
    with pytest.raises(ValueError, match="cut the larger"):
        maths.fused_divergence(**{**values, "teacher_weight": values["teacher_weight"][:-1]})
