"""Every divergence against float64 numpy written from the definition; the sides, the reduction and the temperature of trap 4."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.special import log_softmax, softmax

from understudy import maths

RNG = np.random.default_rng(1)
T, S, W = (RNG.normal(size=(6, 5)) * 2 for _ in range(3))
P, Q = softmax(T, -1), softmax(S, -1)
LABELS = np.array([0, 4, 2, 2, 1, 3])


def t(x: np.ndarray, **options: bool) -> torch.Tensor:
    return torch.tensor(x, **options)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


def test_soft_cross_entropy_is_per_sample_and_equals_the_hard_one() -> None:
    np.testing.assert_allclose(maths.soft_cross_entropy(t(S), t(P)), -(P * np.log(Q)).sum(-1), rtol=1e-12)
    hard = maths.soft_cross_entropy(t(S), t(np.eye(5)[LABELS]))
    torch.testing.assert_close(hard, torch.nn.functional.cross_entropy(t(S), t(LABELS), reduction="none"))


def test_kl_has_the_teacher_first_and_sums_over_classes() -> None:
    found = maths.kl(teacher_logits=t(T), student_logits=t(S))
    np.testing.assert_allclose(found, kl(P, Q), rtol=1e-12)
    assert not np.allclose(found, kl(Q, P), rtol=0.01)
    np.testing.assert_allclose(maths.reverse_kl(teacher_logits=t(T), student_logits=t(S)), kl(Q, P), rtol=1e-12)


@pytest.mark.parametrize("function", [maths.kl, maths.reverse_kl, maths.jsd, maths.symmetric_cross_entropy, maths.nkd, maths.relation_kl])
def test_the_sides_cannot_be_given_by_position(function: object) -> None:
    sides = [p for p in inspect.signature(function).parameters.values() if p.name.startswith(("teacher", "student"))]  # type: ignore[arg-type]
    assert len(sides) == 2 and all(p.kind is p.KEYWORD_ONLY for p in sides)


def test_temperature_scales_once() -> None:
    plain = kl(softmax(T / 4, -1), softmax(S / 4, -1))
    np.testing.assert_allclose(maths.kl(teacher_logits=t(T), student_logits=t(S), temperature=4.0), 16 * plain, rtol=1e-12)
    np.testing.assert_allclose(maths.kl(teacher_logits=t(T), student_logits=t(S), temperature=4.0, scale=False), plain, rtol=1e-12)


def test_at_high_temperature_the_scaled_gradient_is_the_one_of_matched_logits() -> None:
    # Hinton et al., section 2.1: with zero-mean logits the gradient of T^2 KL tends to (z - v) / C.
    v, z = T - T.mean(-1, keepdims=True), S - S.mean(-1, keepdims=True)
    student = t(z, requires_grad=True)
    maths.kl(teacher_logits=t(v), student_logits=student, temperature=1e4).sum().backward()
    np.testing.assert_allclose(student.grad, (z - v) / 5, atol=1e-3)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jsd(beta: float) -> None:
    m = beta * P + (1 - beta) * Q
    np.testing.assert_allclose(maths.jsd(teacher_logits=t(T), student_logits=t(S), beta=beta), beta * kl(P, m) + (1 - beta) * kl(Q, m), rtol=1e-10)


def test_jsd_tends_to_kl() -> None:
    np.testing.assert_allclose(maths.jsd(teacher_logits=t(T), student_logits=t(S), beta=1e-7) / 1e-7, kl(P, Q), rtol=1e-4)


def test_symmetric_cross_entropy() -> None:
    want = -0.5 * (P * np.log(Q)).sum(-1) - 0.5 * (Q * np.log(P)).sum(-1)
    np.testing.assert_allclose(maths.symmetric_cross_entropy(teacher_logits=t(T), student_logits=t(S)), want, rtol=1e-12)


def test_nkd() -> None:
    want = []
    for v, z, y in zip(T, S, LABELS, strict=True):
        rest = np.arange(5) != y
        others = -(softmax(v[rest] / 3) * log_softmax(z[rest] / 3)).sum()
        want.append(-softmax(v)[y] * log_softmax(z)[y] + 3.5 * 9 * others)
    found = maths.nkd(teacher_logits=t(T), student_logits=t(S), labels=t(LABELS), gamma=3.5, temperature=3.0)
    np.testing.assert_allclose(found, want, rtol=1e-12)


def test_nkd_of_a_one_hot_teacher_is_cross_entropy() -> None:
    certain = t(np.where(np.eye(5)[LABELS] == 1, 0.0, -np.inf))
    found = maths.nkd(teacher_logits=certain, student_logits=t(S), labels=t(LABELS))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(t(S), t(LABELS), reduction="none"))


def test_zipf_labels_and_uskd() -> None:
    weak = softmax(W, -1)
    zipf = np.zeros_like(P)
    for i, y in enumerate(LABELS):
        score = Q[i] / (1 - Q[i, y] + 1e-6) + weak[i] / (1 - weak[i, y] + 1e-6)
        zipf[i, np.argsort(-score)] = 1 / np.arange(1, 6)
        zipf[i, y] = 0
        zipf[i] /= zipf[i].sum()
    np.testing.assert_allclose(maths.zipf_labels(t(S), t(W), t(LABELS)), zipf, rtol=1e-12)

    s_y = Q[np.arange(6), LABELS]
    rest = np.where(np.eye(5)[LABELS] == 1, -np.inf, S)
    others = -np.where(zipf > 0, zipf * np.where(zipf > 0, log_softmax(rest, -1), 0), 0).sum(-1)
    want = 0.7 * -(s_y**2 + 1 - (s_y**2).mean()) * np.log(s_y) + 0.2 * others
    np.testing.assert_allclose(maths.uskd(student_logits=t(S), weak_logits=t(W), labels=t(LABELS), alpha=0.7, beta=0.2), want, rtol=1e-12)


def test_uskd_teaches_the_final_head_only_through_its_own_logits() -> None:
    student = t(S, requires_grad=True)
    weak = t(W, requires_grad=True)
    maths.uskd(student_logits=student, weak_logits=weak, labels=t(LABELS)).sum().backward()
    assert weak.grad is None
    torch.testing.assert_close(student.grad.sum(-1), torch.zeros(6, dtype=torch.float64))  # a constant target: softmax gradients sum to zero


TOP = np.argsort(-P, -1)[:, :2].copy()
TOP_P = np.take_along_axis(P, TOP, -1)


def test_topk_tails() -> None:
    uniform = np.tile((1 - TOP_P.sum(-1, keepdims=True)) / 3, 5)
    np.put_along_axis(uniform, TOP, TOP_P, -1)
    np.testing.assert_allclose(maths.expand_topk(t(TOP), t(TOP_P), 5, "uniform"), uniform, rtol=1e-12)
    np.testing.assert_allclose(maths.topk_kl(indices=t(TOP), probabilities=t(TOP_P), student_logits=t(S), tail="uniform"), kl(uniform, Q), rtol=1e-10)

    scaled = TOP_P / TOP_P.sum(-1, keepdims=True)
    np.testing.assert_allclose(maths.expand_topk(t(TOP), t(TOP_P), 5, "zero").sum(-1), np.ones(6), rtol=1e-12)
    q = np.take_along_axis(Q, TOP, -1)
    np.testing.assert_allclose(maths.topk_kl(indices=t(TOP), probabilities=t(TOP_P), student_logits=t(S), tail="zero"), kl(scaled, q), rtol=1e-10)
    own = q / q.sum(-1, keepdims=True)
    np.testing.assert_allclose(maths.topk_kl(indices=t(TOP), probabilities=t(TOP_P), student_logits=t(S), tail="renormalise"), kl(scaled, own), rtol=1e-10)


def test_topk_with_every_class_is_kl() -> None:
    order = np.argsort(-P, -1)
    for tail in ("uniform", "zero", "renormalise"):
        found = maths.topk_kl(indices=t(order), probabilities=t(np.take_along_axis(P, order, -1)), student_logits=t(S), tail=tail)
        np.testing.assert_allclose(found, kl(P, Q), rtol=1e-10)


def test_feature_distances() -> None:
    a, b = RNG.normal(size=(4, 3, 2)), RNG.normal(size=(4, 3, 2))
    np.testing.assert_allclose(maths.squared_distance(t(a), t(b)), ((a - b) ** 2).sum((1, 2)), rtol=1e-12)
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(maths.cosine_distance(t(a), t(b)), 1 - cosine, rtol=1e-10)


PAIRS = {
    "kl": lambda teacher, student: maths.kl(teacher_logits=teacher, student_logits=student, temperature=2.0),
    "jsd": lambda teacher, student: maths.jsd(teacher_logits=teacher, student_logits=student),
    "nkd": lambda teacher, student: maths.nkd(teacher_logits=teacher, student_logits=student, labels=t(LABELS)),
    "reverse_kl": lambda teacher, student: maths.reverse_kl(teacher_logits=teacher, student_logits=student),
    "symmetric": lambda teacher, student: maths.symmetric_cross_entropy(teacher_logits=teacher, student_logits=student),
    "soft": lambda teacher, student: maths.soft_cross_entropy(student, teacher.softmax(-1)),
    "squared": lambda teacher, student: maths.squared_distance(student, teacher),
    "cosine": lambda teacher, student: maths.cosine_distance(student, teacher),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_teacher_gets_no_gradient_and_the_students_is_right(name: str) -> None:
    teacher, student = t(T, requires_grad=True), t(S, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: PAIRS[name](t(T), s), student)
    PAIRS[name](teacher, student).sum().backward()
    assert teacher.grad is None and student.grad is not None


@pytest.mark.parametrize("name", ["kl", "jsd", "nkd", "soft"])
def test_a_class_both_rule_out_changes_nothing(name: str) -> None:
    ruled_out = np.full((6, 2), -np.inf)
    student = t(np.concatenate([S, ruled_out], 1), requires_grad=True)
    found = PAIRS[name](t(np.concatenate([T, ruled_out], 1)), student)
    torch.testing.assert_close(found, PAIRS[name](t(T), t(S)))
    found.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_stored_probabilities_enter_as_logarithms() -> None:
    stored = maths.kl(teacher_logits=t(P).log(), student_logits=t(S), temperature=3.0)
    torch.testing.assert_close(stored, maths.kl(teacher_logits=t(T), student_logits=t(S), temperature=3.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    teacher, student = t(RNG.normal(size=(4, 1000)) * 3).to(dtype), t(RNG.normal(size=(4, 1000)) * 3).to(dtype)
    found = maths.kl(teacher_logits=teacher, student_logits=student)
    exact = maths.kl(teacher_logits=teacher.double(), student_logits=student.double())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


def test_autocast_does_not_narrow_a_product() -> None:
    za, zb = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = maths.barlow(za, zb)
    assert torch.equal(inside, maths.barlow(za, zb))


def test_flipped_cross_entropy_has_the_student_outside_the_logarithm() -> None:
    rng = np.random.default_rng(12)
    z, q = rng.normal(size=(4, 3)), softmax(rng.normal(size=(4, 3)), -1)
    found = maths.flipped_cross_entropy(torch.tensor(z), torch.tensor(q))
    np.testing.assert_allclose(found, -(softmax(z, -1) * np.log(q)).sum(-1))
    assert bool(torch.isfinite(maths.flipped_cross_entropy(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]]))).all())


def test_without_constant_is_the_cosine_transform_without_its_first_coefficient() -> None:
    maps = RNG.normal(size=(2, 5, 4, 3)) + 7  # [B, H, W, D]
    waves = dctn(maps, axes=(1, 2))
    waves[:, 0, 0] = 0
    np.testing.assert_allclose(maths.without_constant(t(maps).flatten(1, 2)), idctn(waves, axes=(1, 2)).reshape(2, 20, 3), atol=1e-12)


def test_layer_distance_by_hand() -> None:
    a, b = (torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in (1, 2))
    x, y = a.numpy(), b.numpy()
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    expected = np.abs(x - y).mean(-1) + 0.5 * np.log1p(np.exp(-cosine))
    np.testing.assert_allclose(maths.layer_distance(a, b, 0.5).numpy(), expected, rtol=1e-6)
    student, teacher = a.clone().requires_grad_(), b.clone().requires_grad_()
    maths.layer_distance(student, teacher).sum().backward()
    assert student.grad is not None and teacher.grad is None
