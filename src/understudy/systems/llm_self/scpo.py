"""Self-consistency preference optimisation: prefer the answer that the model gives most often over the one that it gives least often."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal

from pydantic import Field

from understudy.labels.answers import Answer
from understudy.systems.base import Card
from understudy.systems.language import AnswerRounds, Answers, Lesson, WritingSettings

card = Card(
    slug="scpo",
    id="s399",
    title="Self-Consistency Preference Optimization",
    paper="2411.04109",
    year=2024,
    family="llm-self",
    modalities=("generation",),
    needs="nothing",
    idea="Nobody says what is right: the model answers each problem several times and the answers vote. The most frequent one is preferred over the least frequent one, "
    "with a weight that grows with the margin of the vote; problems on which the model is too divided are left out.",
    equations=(
        "V(y) = number of the k answers that end as y does; keep x where max V >= tau k",
        "w = (V(y+) - V(y-)) / k",
        "loss = -w log sigmoid(beta log p(y+)/p_t(y+) - beta log p(y-)/p_t(y-)) - alpha w / |y+| log p(y+)",
    ),
    unknown="The paper also lets the model write new problems from examples in its prompt; here the problems are the prompts given. Beta, alpha, k and tau are as we remember "
    "them of the paper (0.5, 1, 8, 0.5 in the first round and 0.7 in the second) and could not be looked up; ties are broken by the first answer written.",
)


class ScPOSettings(WritingSettings):
    """Settings of ``scpo``."""

    rounds: int = Field(2, ge=1, description="Rounds of voting and learning (2411.04109, section 3).")
    samples: int = Field(8, ge=2, description="k, answers that vote on a problem (2411.04109, section 3).")
    temperature: float = Field(0.7, ge=0, description="Of the softmax that tokens are drawn from (2411.04109, section 3).")
    top_p: float = Field(0.9, gt=0, le=1, description="Only the fewest likeliest tokens that reach this share are drawn from (2411.04109, section 3).")
    threshold: float = Field(0.5, gt=0, le=1, description="tau, share of the votes that the winner needs in the first round (2411.04109, section 3).")
    later: float = Field(0.7, gt=0, le=1, description="tau of the rounds after it (2411.04109, section 3).")
    beta: float = Field(0.5, gt=0, description="beta, how dear it is to move away from the round's start (2411.04109, section 3).")
    likelihood: float = Field(1.0, ge=0, description="alpha, weight of the winner's own log-probability, per token (2411.04109, equation 2).")
    weighted: bool = Field(True, description="Weight a pair by its margin of votes (2411.04109, equation 2); otherwise all count the same.")
    votes: Literal["whole", "number"] = Field("whole", description="What votes: the whole answer, or the last number in it (2411.04109, section 2.2).")


class ScPO(AnswerRounds):
    """Votes instead of a checker."""

    card = card
    Settings = ScPOSettings
    learner = "dpo"

    def ballot(self, answer: Answer) -> str:
        """What an answer votes for."""
        numbers = re.findall(r"-?\d+(?:\.\d+)?", answer.answer) if self.settings.votes == "number" else []
        return numbers[-1] if numbers else answer.answer.strip()

    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        s, lessons = self.settings, []
        for written in answers.by_prompt():
            ballots = [self.ballot(answer) for answer in written]
            votes = Counter(ballots)
            (winner, most), (loser, fewest) = votes.most_common()[0], votes.most_common()[-1]
            if most == fewest or most < (s.threshold if round == 1 else s.later) * len(written):
                continue
            weight = (most - fewest) / len(written) if s.weighted else 1.0
            lessons.append(Lesson(written[ballots.index(winner)], written[ballots.index(loser)], weight))
        return lessons

    def lessons_settings(self) -> dict[str, Any]:
        return {"beta": self.settings.beta, "likelihood": self.settings.likelihood}
