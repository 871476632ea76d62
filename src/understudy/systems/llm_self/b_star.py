"""B-STaR: before every round, measure which temperature and which threshold give many different right answers and few wrong ones."""

from __future__ import annotations

import torch
from pydantic import Field

from understudy import keyed, maths
from understudy.data.problems import exchanges_of
from understudy.labels.answers import Answer
from understudy.models import Policy
from understudy.systems.base import Card
from understudy.systems.language import AnswerRounds, Answers, Lesson, TriedSettings, different
from understudy.teachers.writers import Sampling

card = Card(
    slug="b-star",
    id="s404",
    title="B-STaR: Monitoring and Balancing Exploration and Exploitation in Self-Taught Reasoners",
    paper="2412.17256",
    year=2024,
    family="llm-self",
    modalities=("generation",),
    needs="verifier",
    idea="A model that learns from its own right answers soon writes little else than what it is sure of. Before each round some problems are answered at several "
    "temperatures, and the temperature and threshold are taken whose answers balance best: many different right ones, and few wrong ones among those selected.",
    equations=(
        "balance(x) = min(n' / n*, 1) n' / n, n different answers selected (reward above the threshold), n' of them right",
        "T_t, tau_t = argmax of its mean over a few problems x, at the model of round t",
        "D_t = {(x, y): y ~ p_t at T_t, reward > tau_t}; p_{t+1} goes on from p_t",
    ),
    unknown="A problem of which nothing is selected counts as 0 here; the released code leaves it out of the mean. That code also adds the given solution to every problem, which "
    "is left out. The paper's reward is right or wrong plus a process reward model; here it is what the verifier says, so with a verifier of 0 and 1 every "
    "threshold below 1 selects the right answers and those of 0 and less select all. Equal answers count once everywhere. What trains is not limited to a total size.",
)


class BStarSettings(TriedSettings):
    """Settings of ``b-star``."""

    rounds: int = Field(9, ge=1, description="Rounds of writing and learning (released code: 9).")
    samples: int = Field(64, ge=1, description="Answers written to every problem (released code: 64).")
    temperatures: tuple[float, ...] = Field(
        (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2), description="Temperatures that are tried before a round (released code: 0.50 to 1.20)."
    )
    thresholds: tuple[float, ...] = Field(
        (-1.0, -0.5, 0.0, 0.5), description="Rewards that an answer must exceed, tried with every temperature (released code: -1 to 1)."
    )
    trial: int = Field(100, ge=1, description="Problems that a trial answers, drawn anew each round (2412.17256, section 4.1: a small subset).")
    enough: int = Field(8, ge=1, description="n*, different right answers to a problem that are as good as more (2412.17256, section 4.1; released code: 8).")


class BStar(AnswerRounds):
    """Rejection sampling with a temperature and a threshold that follow the model."""

    card = card
    Settings = BStarSettings

    def balance(self, written: list[list[Answer]], threshold: float) -> float:
        """The mean balance score of these answers, by prompt."""
        selected = [different(a for a in answers if a.score is not None and a.score > threshold) for answers in written]
        right = [sum(a.score is not None and a.score >= 1 for a in answers) for answers in selected]
        return float(maths.balance(torch.tensor(right), torch.tensor([len(answers) for answers in selected]), self.settings.enough).mean())

    def configuration(self, teacher: Policy, round: int) -> dict[str, float]:
        """Temperature and threshold of a round, with the score of each; measured once and then read."""
        s, name = self.settings, f"balance-{round}.json"
        if (found := self.task.run.read(name)) is None:
            pool = self.pool()
            few = pool.take(torch.as_tensor(keyed.bits(keyed.fold(self.task.key("trial"), round, pool.keys))).argsort(stable=True)[: s.trial])
            asked = [(id, number, exchange) for id, exchange in zip(few.ids, exchanges_of(few), strict=True) for number in range(s.samples)]
            scores: dict[tuple[float, float], float] = {}
            for temperature in s.temperatures:
                writer = self.writer(teacher, Sampling(temperature, s.top_p, s.top_k, s.longest))
                written = Answers(few, self.written(writer, asked, round, f"trial at {temperature}")).by_prompt()
                scores |= {(temperature, threshold): self.balance(written, threshold) for threshold in s.thresholds}
            temperature, threshold = max(scores, key=lambda pair: scores[pair])
            found = {"temperature": temperature, "threshold": threshold, "scores": [[*pair, score] for pair, score in scores.items()]}
            self.task.run.write(name, found)
        return found

    def sampling(self, teacher: Policy, round: int) -> Sampling:
        s = self.settings
        return Sampling(self.configuration(teacher, round)["temperature"], s.top_p, s.top_k, s.longest)

    def decide(self, answers: Answers, round: int) -> list[Lesson]:
        chosen = self.task.run.read(f"balance-{round}.json")
        assert chosen is not None, "the round was written with it"
        lessons = []
        for written in answers.by_prompt():
            selected = [answer for answer in written if answer.score is not None and answer.score > chosen["threshold"]]
            lessons += [Lesson(answer) for answer in different(selected)]
        return lessons
