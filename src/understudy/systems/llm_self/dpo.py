"""DPO: of two answers make the better one likelier, and the other one less, measured from where the model started."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.models import Policy
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="dpo",
    id="core",
    title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    paper="2305.18290",
    year=2023,
    family="llm-self",
    modalities=("generation",),
    needs="labels",
    idea="How much likelier an answer has become since the start stands for its reward. The model learns that the preferred answer of a pair has the larger one.",
    equations=(
        "r(x, y) = beta [log p(y | x) - log p_start(y | x)]",
        "loss = -w log sigmoid(r(x, y+) - r(x, y-)) - alpha w / |y+| log p(y+ | x), w the sample's weight",
    ),
    unknown="The second term is not the paper's: it keeps the preferred answer itself likely (as in 2404.19733, equation 1), and is off by default. "
    "It is per token here, the end included.",
)


class DPOSettings(Settings):
    """Settings of ``dpo``."""

    beta: float = Field(0.1, gt=0, description="beta, how dear it is to move away from the start (2305.18290, appendix B).")
    likelihood: float = Field(
        0.0, ge=0, description="alpha, weight of the preferred answer's own log-probability, per token (2404.19733, equation 1; 0: DPO as published)."
    )


class DPO(Objective):
    """Preference learning against a frozen copy of the start."""

    card = card
    Settings = DPOSettings
    defaults = {"optim.lr": 3e-4, "optim.weight_decay": 0.0}
    reads = {"labelled": 1}
    student: Policy

    def build(self, task: Task) -> None:
        # In a list, out of the module tree: it is never trained and stands in no checkpoint, since the task has it.
        self.reference = [self.student.clone().eval().requires_grad_(False)]

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, start = self.settings, self.reference[0].to(labelled.device)
        assert isinstance(start, Policy), "a copy of the student"
        chosen, rejected = labelled.view("plain").inputs, labelled.view("rejected").inputs
        with torch.no_grad():
            before = start.log_probability(chosen), start.log_probability(rejected)
        tokens = self.student.token_log_probabilities(chosen)
        now = maths.masked_sum(tokens, chosen["answer"]), self.student.log_probability(rejected)
        terms = {"preference": labelled.weighted(maths.dpo(*now, *before, beta=s.beta))}
        if s.likelihood:
            terms["likelihood"] = s.likelihood * labelled.weighted(maths.masked_mean(-tokens, chosen["answer"]))
        return terms
