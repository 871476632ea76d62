"""The warning: a language model that learns whatever it writes, unchecked and beside nothing else, forgets what texts are like."""

from __future__ import annotations

from pydantic import Field

from understudy.systems.base import Card
from understudy.systems.language import AnswerRounds, Answers, Lesson, WritingSettings, labelled_answers

card = Card(
    slug="self-train-collapse",
    id="s381",
    title="Collapse of Self-trained Language Models",
    paper="2404.02305",
    year=2024,
    family="llm-self",
    modalities=("generation",),
    needs="nothing",
    idea="Each round the model writes texts and learns them as if they were data. Nothing says which are good, so that every error of its own is repeated, and what it "
    "never wrote is gone: texts grow alike and repeat themselves, the sooner the larger the learning rate. Not a method to use, but a thing to recognise.",
    equations=("y ~ p_t(. | x)", "p_{t+1} = p_t after steps on -log p(y | x), t = 0, 1, ...", "with an anchor: a share of the y are texts that were given"),
    unknown="The paper trains GPT-2 on its own text as one running stream, a piece at a time, on WikiText-2 and Penn Treebank; its piece length and learning rates could not be "
    "looked up. Here a round writes to every prompt and then learns. The anchor, which prevents the collapse, is no part of the paper.",
)


class SelfTrainCollapseSettings(WritingSettings):
    """Settings of ``self-train-collapse``."""

    rounds: int = Field(10, ge=1, description="How often the model learns what it has just written (ours).")
    samples: int = Field(1, ge=1, description="Texts written to every prompt in a round (ours).")
    anchor: float = Field(0.0, ge=0, le=1, description="Share of the prompts whose own text is replaced by the one that was given (ours; 0: as in the paper).")


class SelfTrainCollapse(AnswerRounds):
    """Learning from oneself without a check."""

    card = card
    Settings = SelfTrainCollapseSettings

    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        given = labelled_answers(self.task.train)
        anchored = in_turn(len(answers.lines), self.settings.anchor, round)
        return [Lesson(given.get(answer.id, answer) if held else answer) for answer, held in zip(answers.lines, anchored, strict=True)]


def in_turn(n: int, share: float, round: int) -> list[bool]:
    """Which of n are among the ``share`` of this round: evenly spaced, and others the next time."""
    return [int((place + round + 1) * share) > int((place + round) * share) for place in range(n)]
