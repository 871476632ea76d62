"""ReST-EM: write many answers, keep those that a checker finds right, learn them from the first weights, and write again."""

from __future__ import annotations

from pydantic import Field

from understudy.data.samples import Samples
from understudy.models import Student
from understudy.systems.base import Card
from understudy.systems.language import AnswerRounds, Answers, Lesson, WritingSettings, different

card = Card(
    slug="rest-em",
    id="s142",
    title="Beyond Human Data: Scaling Self-Training for Problem-Solving with Language Models",
    paper="2312.06585",
    year=2023,
    family="llm-self",
    modalities=("generation",),
    needs="verifier",
    idea="The model answers every problem many times. What a checker finds right, at most a few answers a problem, becomes its training data, learned from the model "
    "of the beginning and not from the last round's, so that what was learned wrongly does not pile up.",
    equations=(
        "E: D_i = {(x, y): y ~ p_{i-1}(. | x), reward(x, y) = 1}, at most `most` for each x",
        "M: p_i = argmin over w, from w_0 again, of -sum over D_i of log p_w(y | x)",
    ),
    unknown="Whether equal answers to one problem count once is not said; here they do, since a short answer is either right or wrong and copies of it teach nothing more. "
    "How often each round trains is not said beyond early stopping on validation; here all rounds share the steps evenly.",
)


class RestEMSettings(WritingSettings):
    """Settings of ``rest-em``."""

    rounds: int = Field(2, ge=1, description="Rounds of E and M; more overfit the problems (2312.06585, section 5.1).")
    samples: int = Field(32, ge=1, description="Answers written to every problem (2312.06585, section 5: 32 for MATH, 64 for APPS).")
    temperature: float = Field(0.7, ge=0, description="Of the softmax that tokens are drawn from (2312.06585, section 5).")
    top_k: int = Field(40, ge=0, description="Only so many of the likeliest tokens are drawn from; 0: all (2312.06585, section 5).")
    most: int = Field(
        10, ge=1, description="Right answers that a problem gives at most, so that easy ones do not crowd out the others (2312.06585, section 5)."
    )
    restart: bool = Field(True, description="Every round learns from the first weights (2312.06585, section 3), not from those of the round before.")
    distinct: bool = Field(True, description="Equal answers to a problem count once.")


class RestEM(AnswerRounds):
    """Expectation-maximisation with a checker."""

    card = card
    Settings = RestEMSettings

    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        lessons = []
        for written in answers.by_prompt():
            right = [answer for answer in written if answer.score is not None and answer.score >= 1]
            lessons += [Lesson(answer) for answer in (different(right) if self.settings.distinct else right)[: self.settings.most]]
        return lessons

    def learn(self, selected: Samples, teacher: Student, round: int) -> Student:
        return self.trained(self.first() if self.settings.restart else teacher, selected, round)
