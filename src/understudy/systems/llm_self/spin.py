"""SPIN: learn to prefer the answers that were given over those that the model of the round before writes itself."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from understudy.data.samples import Samples
from understudy.labels.answers import AnswerStore
from understudy.systems.base import Card
from understudy.systems.language import AnswerRounds, Answers, Lesson, WritingSettings, labelled_answers

card = Card(
    slug="spin",
    id="s305",
    title="Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models",
    paper="2401.01335",
    year=2024,
    family="llm-self",
    modalities=("generation",),
    needs="labels",
    idea="The model plays against its own past: the past one answers the prompts, the present one learns to tell the given answers from these. When it no longer can, "
    "its answers are distributed as the given ones.",
    equations=(
        "y' ~ p_t(. | x)",
        "loss = log(1 + exp(-lambda [log p(y | x) - log p_t(y | x) - log p(y' | x) + log p_t(y' | x)]))",
        "p_{t+1} starts from p_t; from the second round on the y' of the last two rounds count",
    ),
    unknown="Where the model writes the given answer itself, the pair says nothing and is left out here; the released code keeps such pairs, whose loss is constant. "
    "The authors give RMSprop at 5e-7 for 7 billion weights; ours is AdamW at a rate for small models.",
)


class SPINSettings(WritingSettings):
    """Settings of ``spin``."""

    rounds: int = Field(3, ge=1, description="Rounds of play; most of the gain is in the first (2401.01335, section 6.2).")
    samples: int = Field(1, ge=1, description="Own answers to every prompt in a round (released code: 1).")
    beta: float = Field(0.1, gt=0, description="lambda, how dear it is to move away from the opponent (2401.01335, appendix B.1).")
    memory: int = Field(2, ge=1, description="Rounds whose answers are learned from: the present one and those before it (released code: 2).")


class SPIN(AnswerRounds):
    """Self-play against the previous weights."""

    card = card
    Settings = SPINSettings
    learner = "dpo"

    def pool(self) -> Samples:
        return self.task.train.labelled

    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        given = labelled_answers(self.task.train)
        lines = list(answers.lines)
        for past in range(max(1, round - self.settings.memory + 1), round):
            lines += AnswerStore(self.task.run.folder / "answers", past).read()
        return [Lesson(given[line.id], line) for line in lines if line.answer != given[line.id].answer]

    def lessons_settings(self) -> dict[str, Any]:
        return {"beta": self.settings.beta}
