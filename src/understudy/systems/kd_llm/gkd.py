"""GKD: the teacher corrects what the student writes itself, token by token."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from understudy import keyed
from understudy.data.samples import Batch, View
from understudy.errors import UserError
from understudy.models import Policy
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.systems.language import require_same_tokens, told_apart_at_tokens
from understudy.teachers.stored import Stored

card = Card(
    slug="gkd",
    id="s343",
    title="On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
    paper="2306.13649",
    year=2023,
    family="kd-llm",
    modalities=("generation",),
    needs="teacher",
    idea="A student that only ever reads good texts never learns what to do after a mistake of its own. So it writes its own answers, and the teacher says for every "
    "token of them what it would have thought. No gradient passes through the drawing of the tokens.",
    equations=(
        "with chance lambda: y ~ p_S(. | x); otherwise y is the given answer",
        "loss = 1/|y| sum_t D(p_T(. | x, y_<t), p_S(. | x, y_<t))",
        "D: KL(p_T || p_S), KL(p_S || p_T), or JSD_beta = beta KL(p_T || m) + (1 - beta) KL(p_S || m), m = beta p_T + (1 - beta) p_S",
    ),
    unknown="The chance is drawn once a step, as in the paper's algorithm 1. Its best divergence depends on the task; the default is the one that is symmetric. The reward of "
    "reinforcement learning that the paper can add (section 3.2) is left out.",
)


class GKDSettings(Settings):
    """Settings of ``gkd``."""

    on_policy: float = Field(
        1.0, ge=0, le=1, description="lambda, share of the steps that learn from the student's own answers (2306.13649, algorithm 1); 0: given answers only."
    )
    divergence: Literal["jsd", "forward", "reverse"] = Field(
        "jsd", description="D: generalised Jensen-Shannon, KL(teacher || student) or KL(student || teacher) (2306.13649, section 3)."
    )
    beta: float = Field(0.5, gt=0, lt=1, description="beta of the Jensen-Shannon divergence (2306.13649, equation 1; 0.1, 0.5 and 0.9 are compared).")
    temperature: float = Field(1.0, gt=0, description="Of the student's drawing (2306.13649, section 4: 1, for diversity).")
    longest: int | None = Field(None, ge=1, description="Most tokens of an own answer; null: what the model's length leaves after the prompt.")


class GKD(Objective):
    """Token-level distillation on the student's own answers."""

    card = card
    Settings = GKDSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.01}
    student: Policy

    def check(self, task: Task) -> None:
        super().check(task)
        require_same_tokens(self.card.slug, task)
        if isinstance(task.teacher, Stored) and (self.settings.on_policy > 0 or self.settings.divergence != "forward"):
            raise UserError("stored labels are of given answers and of the likely words alone; set gkd.on_policy=0 and gkd.divergence=forward to learn them")
        if self.settings.on_policy < 1 and not len(task.train.labelled):
            raise UserError("gkd reads given answers where on_policy is below 1, and there are none; give answers or leave on_policy at 1")

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        view = self.own(everything) if self.turn() else everything.view("plain")
        teacher = self.task.teacher
        assert teacher is not None, "it was checked"
        distance = told_apart_at_tokens(self.student, teacher, everything, view, self.settings.divergence, self.settings.beta)
        return {"divergence": everything.weighted(distance)}

    def turn(self) -> bool:
        """Whether this step is on-policy: the same for all processes."""
        return float(keyed.uniform(keyed.fold(self.task.key("turn"), self.step))) < self.settings.on_policy

    def own(self, batch: Batch) -> View:
        """The batch with answers that the student writes now."""
        prompts, keys = batch.view("prompt"), batch.random("answers")
        answers = self.student.write(prompts.inputs, keys, longest=self.settings.longest, temperature=self.settings.temperature)
        return View("own", self.student.continued(prompts.inputs, answers), keys)
