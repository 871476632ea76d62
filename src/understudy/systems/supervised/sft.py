"""Supervised fine-tuning of a language model: learn the answers that are given. The control of every claim about language models."""

from __future__ import annotations

from torch import Tensor

from understudy import maths
from understudy.data.samples import Batch
from understudy.models import Policy
from understudy.settings import Settings
from understudy.systems.base import Card, Objective

card = Card(
    slug="sft",
    id="control",
    title="Supervised fine-tuning of a language model",
    paper="2203.02155",
    year=2022,
    family="supervised",
    modalities=("generation",),
    needs="labels",
    idea="The model learns to write the given answer after its prompt, token by token. The prompt itself is not learned.",
    equations=("loss = -1/|y| sum_t log p(y_t | x, y_<t), the end token included",),
    unknown="The mean is over the tokens of each answer, and then over the answers; some libraries average over all tokens of a batch, where long answers count more.",
)


class SFT(Objective):
    """Cross-entropy on answers, weighted where the samples carry weights."""

    card = card
    Settings = Settings
    defaults = {"optim.lr": 3e-3, "optim.weight_decay": 0.01}
    reads = {"labelled": 1}
    student: Policy

    def losses(self, labelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        inputs = labelled.view("plain").inputs
        return {"answers": labelled.weighted(maths.masked_mean(-self.student.token_log_probabilities(inputs), inputs["answer"]))}
