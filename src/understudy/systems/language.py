"""Rounds of a language model that learns from what it writes itself: write, score, decide, learn, and every line of it on disk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from understudy import collective, keyed, maths
from understudy.data.modalities.generation import Exchange
from understudy.data.problems import exchanges_of, samples_of
from understudy.data.samples import Batch, Samples, View
from understudy.engine import distribution
from understudy.errors import UserError
from understudy.labels.answers import Answer, AnswerStore
from understudy.maths.fused import Divergence
from understudy.models import Policy, Student, io
from understudy.settings import Settings
from understudy.systems.base import Rounds, Task
from understudy.teachers.base import Teacher, Words
from understudy.teachers.kinds import Frozen
from understudy.teachers.stored import Stored
from understudy.teachers.writers import PolicyWriter, Sampling, VllmWriter, Writer

_AT_ONCE = 1024
"""Answers between two writes to the disk."""


class TriedSettings(Settings):
    """How a policy writes in its rounds, at a temperature that the system finds."""

    rounds: int = Field(3, ge=1, description="How often the model writes and learns.")
    warm_up: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the steps that first learn the answers that are given, for a model that cannot write yet (ours; the papers begin with one that can).",
    )
    samples: int = Field(8, ge=1, description="Answers written to every prompt in a round.")
    top_p: float = Field(1.0, gt=0, le=1, description="Only the fewest likeliest tokens that reach this share are drawn from (1904.09751, section 3.1).")
    top_k: int = Field(0, ge=0, description="Only so many of the likeliest tokens are drawn from; 0: all.")
    longest: int | None = Field(None, ge=1, description="Most tokens of an answer; null: what the model's length leaves after the prompt.")
    engine: Literal["torch", "vllm"] = Field("torch", description="What the model writes with: this process, or vLLM, for hf: models.")


class WritingSettings(TriedSettings):
    """How a policy writes in its rounds; each system has its own defaults."""

    temperature: float = Field(1.0, ge=0, description="Of the softmax that tokens are drawn from; 0 takes the likeliest.")


@dataclass(frozen=True)
class Lesson:
    """What is learned from the answers to one prompt."""

    chosen: Answer
    rejected: Answer | None = None
    weight: float = 1.0

    @property
    def id(self) -> str:
        """Names the lines it was made of."""
        return self.chosen.name + (f" over round-{self.rejected.round}/{self.rejected.number}" if self.rejected else "")

    @property
    def exchange(self) -> Exchange:
        return Exchange(self.chosen.prompt, self.chosen.answer, self.rejected.answer if self.rejected else None)


@dataclass(frozen=True)
class Answers:
    """What was written in one round."""

    samples: Samples
    """Whose prompts were answered."""
    lines: Sequence[Answer]

    def by_prompt(self) -> list[list[Answer]]:
        """The answers to each prompt, in the order of the samples."""
        return [list(group) for _, group in groupby(self.lines, key=lambda line: line.id)]


class AnswerRounds(Rounds):
    """A subclass decides what is learned from the answers of a round.

    ``answers/round-N.jsonl`` has every answer with its score and what was decided; the id of each training sample names the lines that it was made of.
    """

    learner: ClassVar[str] = "sft"
    """The system that learns what was selected."""

    @property
    def rounds(self) -> int:  # type: ignore[override]
        return self.settings.rounds  # type: ignore[no-any-return]

    def check(self, task: Task) -> None:
        super().check(task)
        if not isinstance(task.student, Policy):
            raise UserError(f"{self.card.slug} needs a model that writes; choose one such as small-lm or hf:NAME")

    def first(self) -> Student:
        """The model of the beginning."""
        s, known = self.settings, self.task.train.labelled
        if not s.warm_up:
            return self.task.student
        if not len(known):
            raise UserError(f"{self.card.slug}.warm_up learns given answers and there are none; give answers, or a model that can write already")
        return self.stage("start", "sft", self.task.student, train=known, common=self.share(s.warm_up)).student

    def pool(self) -> Samples:
        """What is written for: every prompt."""
        return self.task.train

    def sampling(self, teacher: Policy, round: int) -> Sampling:
        """How the answers of a round are drawn."""
        s = self.settings
        return Sampling(s.temperature, s.top_p, s.top_k, s.longest)

    def writer(self, teacher: Policy, sampling: Sampling) -> Writer:
        """Who writes with the weights of ``teacher``."""
        if self.settings.engine == "torch":
            return PolicyWriter(teacher.to(distribution.start(self.task.settings.device)), sampling)
        folder = self.task.run.folder / "writing"
        if collective.rank() == 0:
            io.save(teacher, folder)
        collective.barrier()
        return VllmWriter(folder, sampling)

    def propose(self, teacher: Student, round: int) -> Answers:  # type: ignore[override]
        """The answers of a round, those that are on disk already and then the others."""
        assert isinstance(teacher, Policy), "a round returns what it was given"
        pool, store = self.pool(), AnswerStore(self.task.run.folder / "answers", round)
        if not len(pool):
            raise UserError(f"{self.card.slug} writes answers to prompts and there are none among the {len(self.task.train)} given")
        wanted = [(index, number) for index in range(len(pool)) for number in range(self.settings.samples)]
        there = {(line.id, line.number): line for line in store.read()}
        missing = [(index, number) for index, number in wanted if (pool.ids[index], number) not in there]
        collective.barrier()
        if missing:
            writer, exchanges = self.writer(teacher, self.sampling(teacher, round)), exchanges_of(pool)
            for start in range(0, len(missing), _AT_ONCE):
                part = missing[start : start + _AT_ONCE]
                lines = self.written(writer, [(pool.ids[i], number, exchanges[i]) for i, number in part], round)
                store.append(lines)
                there |= {(line.id, line.number): line for line in lines}
                self.task.run.listener.progress(min(start + _AT_ONCE, len(missing)), len(missing))
        return Answers(pool, [there[pool.ids[index], number] for index, number in wanted])

    def written(self, writer: Writer, asked: Sequence[tuple[str, int, Exchange]], round: int, purpose: str = "answers") -> list[Answer]:
        """Write and score one answer for each (id, number, exchange). The draw belongs to id, number, round and ``purpose``."""
        key = keyed.fold(self.task.key(purpose), round)
        keys = keyed.fold(key, keyed.of_texts([id for id, _, _ in asked]), torch.tensor([number for _, number, _ in asked]))
        said = writer([exchange.prompt for _, _, exchange in asked], torch.as_tensor(keys))
        exchanges = [exchange for _, _, exchange in asked]
        scores: Sequence[float | None] = [None] * len(said) if self.task.reward is None else self.task.reward(exchanges, said)
        return [Answer(round, id, number, exchange.prompt, answer, score) for (id, number, exchange), answer, score in zip(asked, said, scores, strict=True)]

    @abstractmethod
    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        """What is learned from the answers of a round."""

    def select(self, proposals: Any, round: int) -> Samples:
        """The lessons of a round as samples; what was decided is written to the file of the answers."""
        lessons = self.decide(proposals, round)
        decisions = {}
        for lesson in lessons:
            for answer, decision in ((lesson.rejected, "rejected"), (lesson.chosen, "chosen")):
                if answer is not None and answer.round == round:
                    decisions[answer.id, answer.number] = decision
        AnswerStore(self.task.run.folder / "answers", round).decide(proposals.lines, decisions)
        if not lessons:
            return self.task.train.take(torch.zeros(0, dtype=torch.int64))
        weights = torch.tensor([lesson.weight for lesson in lessons])
        return samples_of([lesson.exchange for lesson in lessons], self.task.student.modality, [lesson.id for lesson in lessons], weights)  # type: ignore[arg-type]

    def lessons_settings(self) -> dict[str, Any]:
        """Settings of the learner."""
        return {}

    def learn(self, selected: Samples, teacher: Student, round: int) -> Student:
        """The student of a round; it goes on from its teacher, unless a system decides otherwise."""
        return self.trained(teacher, selected, round)

    def trained(self, start: Student, selected: Samples, round: int) -> Student:
        """``start``, after it has learned what was selected, for its share of the steps."""
        stage = self.stage(
            f"round-{round}",
            self.learner,
            start,
            train=selected,
            settings=self.lessons_settings(),
            common=self.share((1 - self.settings.warm_up) / self.rounds),
        )
        return stage.student


def told_apart_at_tokens(student: Policy, teacher: Teacher, batch: Batch, view: View, divergence: Divergence, beta: float) -> Tensor:
    """How far a student is from its teacher at the tokens of the answers in a view, mean over each: ``[B]``.

    ``divergence`` as ``maths.fused_divergence``. Where both models are states and a linear map, or the teacher's answers are stored, nobody holds tokens x vocabulary.
    """
    answer, head = view.inputs["answer"][:, 1:], student.backbone.head  # what is read at t - 1 says token t
    known = teacher(batch, view).words if "words" in teacher.offers else None
    live = teacher.states(batch, view) if known is None and isinstance(teacher, Frozen) else None
    if head is None or (known is None and live is None):
        said = student(view.inputs)[:, :-1]
        p = known if known is not None else teacher(batch, view).logits
        assert p is not None, "a policy gives logits"
        if isinstance(p, Words):
            distance = said.new_zeros(answer.shape, dtype=torch.float32)
            distance[answer] = maths.topk_kl(indices=p.indices, probabilities=p.probabilities, student_logits=said[answer], tail=p.tail)
        else:
            sides = {"teacher_logits": p[:, :-1], "student_logits": said}
            distance = maths.jsd(**sides, beta=beta) if divergence == "jsd" else (maths.kl if divergence == "forward" else maths.reverse_kl)(**sides)
        return maths.masked_mean(distance, answer)
    weights = (answer / answer.sum(1, keepdim=True).clamp_min(1))[answer]
    states = student.backbone.states(view.inputs)[:, :-1][answer]
    if known is not None:
        losses = maths.fused_topk_kl(states, head.weight, head.bias, **known._asdict(), weights=weights)
    else:
        assert live is not None
        theirs, map = live
        losses = maths.fused_divergence(
            states, head.weight, head.bias, teacher_hidden=theirs[:, :-1][answer], teacher_weight=map.weight, teacher_bias=map.bias,
            divergence=divergence, beta=beta, weights=weights,
        )  # fmt: skip
    return losses.new_zeros(len(batch)).index_add(0, answer.nonzero(as_tuple=True)[0], losses)


def require_same_tokens(name: str, task: Task) -> None:
    """Raises UserError for a teacher that reads texts as other tokens than the student does."""
    if isinstance(task.teacher, Stored):
        task.teacher.store.require(tokenizer=task.student.modality.signature().get("tokenizer"))
        return
    reads = getattr(getattr(task.teacher, "model", task.student), "modality", None)
    if reads is None or reads.signature() != task.student.modality.signature():
        raise UserError(f"{name} compares teacher and student token by token, and theirs are not the same; use one tokenizer and length for both, or alm")


def different(answers: Iterable[Answer]) -> list[Answer]:
    """The first of each text, in order."""
    first: dict[str, Answer] = {}
    for answer in answers:
        first.setdefault(answer.answer, answer)
    return list(first.values())


def labelled_answers(samples: Samples) -> dict[str, Answer]:
    """The known answers by the id of their sample, as round 0: what the data say, not what a model wrote."""
    known = samples.labelled
    return {
        id: Answer(0, id, 0, exchange.prompt, exchange.answer or "", decision="chosen") for id, exchange in zip(known.ids, exchanges_of(known), strict=True)
    }
