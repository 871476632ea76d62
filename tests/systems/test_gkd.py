"""GKD: the teacher corrects the student's own answers, on the answer's tokens alone, and nothing flows through the drawing."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy import models
from understudy.claims import learn, solved
from understudy.data import problems
from understudy.data.modalities import GenerationModality
from understudy.errors import UserError
from understudy.teachers import Stored, label_tokens, token_store_for
from understudy.teachers.kinds import Frozen

_spec = spec_from_file_location("writing", Path(__file__).with_name("writing.py"))
assert _spec and _spec.loader
writing = module_from_spec(_spec)
_spec.loader.exec_module(writing)
_spec = spec_from_file_location("training", Path(__file__).with_name("training.py"))
assert _spec and _spec.loader
training = module_from_spec(_spec)
_spec.loader.exec_module(training)


def fresh(key: int = 8) -> Any:
    return models.build("tiny-lm", writing.task()[0].modality, (), key, width=32)


def made(folder: Path, student: Any = None, teacher: Any = None, **settings: Any) -> Any:
    return training.made("gkd", writing.task()[0], folder, student or fresh(), settings, Frozen(teacher or writing.start().clone()), train__batch=8)


def test_a_student_learns_what_its_teacher_knows_from_its_own_answers() -> None:
    """Nobody shows it an answer: it sees prompts alone."""
    _, pool, test = writing.task()
    student = learn("sft", fresh(), writing.task()[0], seed=7, steps=30, train__batch=32, optim__lr=4e-3).student
    teacher = learn("sft", writing.start(), writing.task()[0], seed=7, steps=80, train__batch=32, optim__lr=4e-3).student
    common = {"seed": 7, "steps": 100, "train__batch": 32, "optim__lr": 4e-3}
    before = solved(student, test, writing.CHECK)
    after = solved(learn("gkd", student, pool, teacher=Frozen(teacher), **common).student, test, writing.CHECK)
    assert after > before + 0.15, f"{after:.3f} is not above the {before:.3f} of the start"


@pytest.mark.parametrize("divergence", ["jsd", "forward", "reverse"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(divergence: str, tmp_path: Path) -> None:
    system = made(tmp_path, writing.start(), divergence=divergence)
    batch = writing.task()[0].batch(torch.arange(8))
    torch.testing.assert_close(system.losses(everything=batch)["divergence"], torch.zeros(8), atol=1e-6, rtol=0)
    other = made(tmp_path, divergence=divergence).losses(everything=batch)["divergence"]
    assert other.shape == (8,) and bool((other > 0.01).all())


def test_prompt_and_padding_do_not_count(tmp_path: Path) -> None:
    system = made(tmp_path, on_policy=0.0, divergence="forward")
    samples = writing.task()[0]
    together = system.losses(everything=samples.batch(torch.arange(6)))["divergence"]
    alone = torch.cat([system.losses(everything=samples.batch(torch.tensor([i])))["divergence"] for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    inputs = samples.batch(torch.tensor([0])).view("plain").inputs
    teacher, student = (model(inputs)[0].log_softmax(-1) for model in (writing.start(), system.student))
    places = inputs["answer"][0].nonzero().squeeze(-1) - 1  # the logits before a token are the ones about it
    wanted = (teacher[places].exp() * (teacher[places] - student[places])).sum(-1).mean()
    torch.testing.assert_close(together[0], wanted, rtol=1e-4, atol=1e-6)


def test_the_share_of_its_own_answers_is_the_one_asked_for(tmp_path: Path) -> None:
    for share, low, high in ((0.0, 0, 0), (0.25, 30, 70), (1.0, 200, 200)):
        system = made(tmp_path, on_policy=share)
        turns = 0
        for system.step in range(200):
            turns += system.turn()
        assert low <= turns <= high


def test_its_answers_are_drawn_anew_at_each_step_and_carry_no_gradient(tmp_path: Path) -> None:
    system = made(tmp_path)
    first, again, later = (system.own(writing.task()[0].batch(torch.arange(8), 1, step)) for step in (0, 0, 1))
    assert torch.equal(first.inputs["tokens"], again.inputs["tokens"])
    assert first.inputs["tokens"].shape != later.inputs["tokens"].shape or not torch.equal(first.inputs["tokens"], later.inputs["tokens"])
    assert all(p.grad is None for p in system.student.parameters()) and not first.inputs["tokens"].is_floating_point()


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    other = models.build("tiny-lm", GenerationModality.characters(["0123456789>x"], 24), (), 1, width=32)
    with pytest.raises(UserError, match="one tokenizer and length for both, or alm"):
        made(tmp_path, teacher=other)
    unanswered = problems.hidden(writing.task()[0], 0, 1)
    with pytest.raises(UserError, match="reads given answers"):
        training.made("gkd", unanswered, tmp_path, fresh(), {"on_policy": 0.5}, Frozen(writing.start().clone()))


@pytest.mark.parametrize("divergence", ["jsd", "forward", "reverse"])
def test_without_logits_of_all_tokens_it_is_the_same(divergence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradients with the linear map to the vocabulary fused into the divergence, and through whole logits."""
    system = made(tmp_path, divergence=divergence, on_policy=0.0)
    batch = writing.task()[0].batch(torch.arange(8))
    found = []
    for teacher in (system.task.teacher, Plain(system.task.teacher)):
        system.task = replace(system.task, teacher=teacher)
        system.student.zero_grad()
        losses = system.losses(everything=batch)["divergence"]
        losses.mean().backward()
        found.append([losses, *(p.grad for p in system.student.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


class Plain(Frozen):
    """A teacher that gives logits alone."""

    def __init__(self, other: Any):
        super().__init__(other.model)

    def states(self, *_: Any) -> None:
        return None


@pytest.mark.parametrize("codec", ["topk", "draws"])
def test_a_student_learns_from_stored_tokens(codec: str, tmp_path: Path) -> None:
    """What the teacher said is on disk, and the teacher gone."""
    known, _, test = writing.task()
    teacher = Frozen(learn("sft", writing.start(), known, seed=7, steps=80, train__batch=32, optim__lr=4e-3).student)
    store = token_store_for(tmp_path, teacher, known, codec, k=8)
    label_tokens(teacher, known, store)
    common = {"seed": 7, "steps": 60, "train__batch": 32, "optim__lr": 4e-3}
    settings = {"on_policy": 0.0, "divergence": "forward"}
    after = [solved(learn("gkd", fresh(), known, settings=settings, teacher=t, **common).student, test, writing.CHECK) for t in (Stored(tmp_path), teacher)]
    assert after[0] > 0.15 and after[0] > after[1] - 0.15, after


def test_stored_tokens_of_own_answers_do_not_exist(tmp_path: Path) -> None:
    known = writing.task()[0]
    store = token_store_for(tmp_path / "labels", Frozen(writing.start().clone()), known, "topk", k=4)
    with pytest.raises(UserError, match=r"set gkd.on_policy=0 and gkd.divergence=forward"):
        training.made("gkd", known, tmp_path, fresh(), {}, Stored(store.folder), train__batch=8)
