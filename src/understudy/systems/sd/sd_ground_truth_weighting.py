"""Self-distillation in closed form: every generation fits a mix of the ground truth and of what the last one said."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from understudy import maths
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.engine import distribution
from understudy.errors import UserError
from understudy.models.predict import features, predict
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Outcome, Proposals, Rounds, Task

card = Card(
    slug="sd-ground-truth-weighting",
    id="s008",
    title="Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation",
    paper="2102.13088",
    year=2021,
    family="sd",
    modalities=("image", "text", "table"),
    needs="labels",
    idea="Ridge regression on frozen features, again and again: each generation learns a weighted mix of the labels and of the last generation's predictions. "
    "Without labels in the mix every generation is regularised more, and in the end all predictions are the same. With a share of them it stops at one ridge "
    "regression of a larger penalty. As predictions are linear in targets, the best share of each generation has a closed form.",
    equations=(
        "f_t = A target_t, A the smoother of ridge with penalty lambda on the features K: K (K + lambda I)^-1",
        "target_1 = y, target_t = a_t y + (1 - a_t) f_{t-1}(X)",
        "a_t = argmin_a | a (A y)(V) + (1 - a) (A f_{t-1})(V) - y_V |^2 on validation V",
        "a constant: f_infinity = ridge of y with penalty lambda / a",
    ),
    unknown="The paper has kernels; here the kernel is the inner product of the backbone's pooled features, which stay as they are, and the intercept bears no "
    "penalty. Its networks learn by squared error on probabilities, re-initialised every time, and have no closed form. Logits are regressed on one-hot "
    "labels: for accuracy alone, since their softmax is no probability that means anything.",
)


class SDGroundTruthWeightingSettings(Settings):
    """Settings of ``sd-ground-truth-weighting``."""

    generations: int = Field(5, ge=1, description="how many fits follow one another (2102.13088, section 5: 5)")
    label_share: float | None = Field(None, description="a, weight of the labels in a target; null: the best on validation, in closed form (section 3.4)")
    penalty: float = Field(1.0, gt=0, description="lambda, ridge penalty on features that vary by 1 (2102.13088, section 3: chosen on validation)")
    validation: float = Field(0.2, gt=0, lt=1, description="share of the labels held out to choose a, where no validation set is given (ours)")


class SDGroundTruthWeighting(Rounds):
    """Generations of ridge regression."""

    card = card
    Settings = SDGroundTruthWeightingSettings

    def check(self, task: Task) -> None:
        super().check(task)
        if task.student.neck is not None:
            raise UserError("sd-ground-truth-weighting fits a head on the backbone's features, and this model has a neck between the two; give one without")

    @property
    def rounds(self) -> int:  # type: ignore[override]
        return self.settings.generations - 1  # type: ignore[no-any-return]

    def pool(self) -> Samples:
        """What every generation is fitted on."""
        known = self.task.train.labelled
        return (
            known if self.given is not None or self.settings.label_share is not None else hold_out(known, self.settings.validation, self.task.settings.seed)[0]
        )

    @property
    def given(self) -> Samples | None:
        """The validation samples that were given, if any."""
        return self.task.validation if self.task.validation is not None and len(self.task.validation) else None

    def first(self) -> Student:
        device, known = distribution.start(self.task.settings.device), self.task.train.labelled
        self.start = self.task.student.with_head(self.task.classes, self.task.key("head"))
        held = self.given or hold_out(known, self.settings.validation, self.task.settings.seed)[1]
        self.seen, self.held, self.shares = features(self.start, self.pool(), device=device), held, [1.0]
        # In units in which the features vary by 1 on average, a penalty means the same for every backbone.
        self.penalty = self.settings.penalty * float(self.seen.var(0).mean())
        return self.fitted(one_hot(self.pool()))

    def fitted(self, targets: Tensor) -> Student:
        """The student whose head is the ridge regression of ``targets`` ``[N, C]``."""
        student = self.start.clone()
        assert student.head is not None, "made with one"
        weight, bias = maths.ridge(self.seen, targets, self.penalty)
        with torch.no_grad():
            student.head.weight.copy_(weight)
            student.head.bias.copy_(bias)
        return student

    def propose(self, teacher: Student, round: int) -> Proposals:
        """What the last generation says about its own samples: raw, as ridge regression has no softmax."""
        return Proposals(self.pool(), predict(teacher, self.pool()))

    def select(self, proposals: Proposals, round: int) -> Samples:
        """All of them, with the mix as the target."""
        y, said, share = one_hot(proposals.samples), proposals.probabilities, self.settings.label_share
        if share is None:
            by_labels, by_teacher = (predict(self.fitted(targets), self.held) for targets in (y, said))
            share = maths.best_label_share(one_hot(self.held), by_labels, by_teacher)
        self.shares.append(share)
        return proposals.samples.relabelled(proposals.samples.labels, None, maths.progressive(y, said, 1 - share))

    def learn(self, selected: Samples, teacher: Student, round: int) -> Student:
        assert selected.targets is not None, "select gives them"
        return self.fitted(selected.targets)

    def run(self) -> Outcome:
        outcome = super().run()
        outcome.facts["label_shares"] = self.shares
        return outcome


def one_hot(samples: Samples) -> Tensor:
    return torch.nn.functional.one_hot(samples.labels, len(samples.classes)).float()
