"""Prompts, answers and a verifier on the command line's side: from a file to a model that answers better, with every sample on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import understudy as us
from understudy import models
from understudy.data import problems
from understudy.data.source import open_source
from understudy.errors import UserError
from understudy.models import Policy

CHECK = "def verify(prompt, answer, reference):\n    return answer == ''.join(sorted(prompt.rstrip('>')))\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """120 prompts, half of them with an answer."""
    path = tmp_path / "problems.jsonl"
    exchanges = problems.exchanges_of(problems.draw("sorting", 120, 4, 3))
    rows = [{"prompt": e.prompt, **({"answer": e.answer} if i % 2 else {})} for i, e in enumerate(exchanges)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "check.py").write_text(CHECK)
    return path


def run(file: Path, out: Path, **options: Any) -> Any:
    common = {
        "system": "rest-em",
        "student": "tiny-lm",
        "seed": 1,
        "quiet": True,
        "set": ["train.steps=40", "device=cpu", "rest-em.samples=2", "train.batch=16"],
    }
    return us.selftrain(file, out=out, **{**common, **options})


def test_prompts_and_answers_are_found(file: Path) -> None:
    found = open_source(file)
    assert found.modality == "generation" and len(found.train) == 120 and len(found.train.labelled) == 60
    assert any("120 prompts: 60 with an answer, 60 without" in sentence for sentence in found.describe())
    renamed = file.with_name("renamed.jsonl")
    renamed.write_text(file.read_text().replace('"prompt"', '"question"').replace('"answer"', '"solution"'))
    with pytest.raises(UserError, match="no column 'prompt'"):
        open_source(renamed, modality="generation")
    again = open_source(renamed, modality="generation", text_column="question", label_column="solution")
    assert problems.exchanges_of(again.train) == problems.exchanges_of(found.train)


def test_a_model_learns_from_its_checked_answers(file: Path, tmp_path: Path) -> None:
    result = run(file, tmp_path / "run", verifier=tmp_path / "check.py")
    assert isinstance(result.student, Policy) and result.answer["control"]["samples"] == 24, "a fifth of all prompts, since they can all be checked"
    kept = json.loads((tmp_path / "run" / "result.json").read_text())
    assert kept["system"] == "rest-em" and kept["task"] == "answers to prompts"
    lines = [json.loads(line) for line in (tmp_path / "run" / "answers" / "round-1.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 96 and {line["score"] for line in lines} <= {0.0, 1.0}
    assert all(line["score"] == 1.0 for line in lines if line["decision"] == "chosen")
    assert us.resume(tmp_path / "run", quiet=True).answer == kept


def test_without_a_verifier_an_answer_is_right_where_it_is_the_known_one(file: Path, tmp_path: Path) -> None:
    assert run(file, tmp_path / "run").answer["result"]["samples"] == 12, "a fifth of those whose answer is known"
    bare = file.with_name("bare.jsonl")
    bare.write_text("".join(json.dumps({"prompt": json.loads(line)["prompt"]}) + "\n" for line in file.read_text().splitlines()))
    with pytest.raises(UserError, match="no answer is known"):
        run(bare, tmp_path / "other")


def test_a_saved_policy_goes_on_and_teaches(file: Path, tmp_path: Path) -> None:
    found = open_source(file)
    models.save(models.build("tiny-lm", found.train.modality, (), 1), tmp_path / "big")
    result = us.distill(
        file, teacher=f"run:{tmp_path / 'big'}", student="tiny-lm", system="gkd", seed=1, out=tmp_path / "run", quiet=True, set=["train.steps=3", "device=cpu"]
    )
    assert result.answer["system"] == "gkd" and isinstance(result.student, Policy)
    assert not (tmp_path / "run" / "answers").exists()


def test_mistakes_are_sentences(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave --labels out"):
        run(file, tmp_path / "run", labels=tmp_path / "labels.csv")
    with pytest.raises(UserError, match="there is no verifier"):
        run(file, tmp_path / "run", verifier=tmp_path / "none.py")
    with pytest.raises(UserError, match="takes no verifier"):
        us.selftrain(file, system="noisy-student", verifier=tmp_path / "check.py")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("codec", ["topk", "draws"])
def test_tokens_of_answers_are_labelled_and_learned(file: Path, tmp_path: Path, codec: str) -> None:
    teacher = run(file, tmp_path / "teacher", verifier=tmp_path / "check.py").folder
    asked = {"teacher": f"run:{teacher}", "codec": codec, "quiet": True, "set": ["label.words=5"]}
    found = us.label(file, out=tmp_path / "labels", **asked)
    answers = [row["answer"] for row in map(json.loads, file.read_text().splitlines()) if "answer" in row]
    assert found.labels == found.added == sum(len(answer) + 1 for answer in answers) and 0 < found.bytes / found.labels < 20, "every character and the end"
    settings = ["train.steps=4", "train.batch=8", "device=cpu", "gkd.on_policy=0", "gkd.divergence=forward"]
    learned = us.distill(file, teacher=f"labels:{tmp_path / 'labels'}", student=f"run:{teacher}", system="gkd", out=tmp_path / "d", quiet=True, set=settings)
    assert isinstance(learned.student, Policy)
    with pytest.raises(UserError, match="of tokens, which are not asked for again"):
        us.label_verify(tmp_path / "labels", file, teacher=f"run:{teacher}", quiet=True)
    another = file.with_name("another.jsonl")
    another.write_text(file.read_text().replace("4", "a"))
    with pytest.raises(UserError, match="of the tokenizer"):
        us.distill(another, teacher=f"labels:{tmp_path / 'labels'}", student="tiny-lm", system="gkd", out=tmp_path / "e", quiet=True, set=settings)
    for wrong, says in (
        ({"codec": "soft"}, "choose one with --codec"),
        ({"view": "weak"}, "leave --view"),
        ({"teacher": "http://x#y"}, "give --teacher with hf:NAME"),
    ):
        with pytest.raises(UserError, match=says):
            us.label(file, out=tmp_path / "wrong", **{**asked, **wrong})
