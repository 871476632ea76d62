"""FST: the student steps ahead on trial, the teacher follows it there, labels what the student sees now, and only then the student steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import functional_call

from understudy import collective, maths
from understudy.data import sampler
from understudy.data.samples import Batch, Inputs
from understudy.models.norm import untracked
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="fst",
    id="s096",
    title="Learning from Future: A Novel Self-Training Framework for Semantic Segmentation",
    paper="2209.06993",
    year=2022,
    family="st-dense",
    modalities=("segmentation",),
    needs="labels",
    idea="A mean teacher that labels unlabelled images is made of students of the past. Here the student first takes steps on trial, the teacher averages over where they lead, and its labels "
    "then guide the student's real step, from where it was. Looking deep takes several trial steps on one batch; looking wide takes one step on each of several batches and averages them.",
    equations=(
        "L(theta; phi) = CE(y, f(x)) + w q CE(argmax f_phi(weak(u)), f(strong(u))), q: share of the pixels of which the teacher is sure",
        "deep: K times { phi <- m phi + (1 - m) theta~; theta~ <- theta~ - step grad L(theta~; phi) }, from theta~ = theta; then phi <- m phi + (1 - m) theta~",
        "wide: phi <- m phi + (1 - m) mean_k (theta - step grad L_k(theta; phi)), k = 1..K, each on a batch of its own",
        "then one step of the optimiser from theta on L(theta; phi)",
    ),
    unknown="The released code takes trial steps with the optimiser itself, whose moments and batch-norm statistics they move for good, and counts warm-up by them. Here a trial step follows the "
    "gradient, tensor by tensor as far as the last real step went (none before the first), and leaves nothing behind but the teacher. As there, looking deep updates the teacher K + 1 times a step, so "
    "that it forgets as fast as with momentum m^(K+1). The paper's ClassMix, rare-class sampling and feature distance are left out; q is taken of each image, not of the batch.",
)


class FSTSettings(Settings):
    """Settings of ``fst``."""

    look: Literal["deep", "wide"] = Field("deep", description="several trial steps on one batch, or one on each of several batches (2209.06993, section 3.3)")
    ahead: int = Field(3, ge=0, description="K, trial steps before a real one; 0: ordinary self-training with a mean teacher (2209.06993, section 4.1: 3)")
    stride: float = Field(1.0, gt=0, description="length of a trial step, as a multiple of that of the last real one (2209.06993, section 3.2: the same)")
    momentum: float = Field(
        0.99, ge=0, lt=1, description="m, share of itself that the teacher keeps at an update, warmed up (2209.06993, section 4.1: 0.99 to 0.999)"
    )
    threshold: float = Field(0.968, ge=0, le=1, description="probability from which the teacher is sure of a pixel (2209.06993, section 4.1, as in 2007.08702)")
    weight: float = Field(1.0, ge=0, description="w, weight of the pseudo-labels (2209.06993, equation 2: 1)")


class FST(Objective):
    """Self-training on labels from the future."""

    card = card
    Settings = FSTSettings
    defaults = {"train.batch": 16}
    reads = {"labelled": 1, "unlabelled": 1}
    coupled = True  # a trial step is of the global batch
    shards = False
    lengths: Tensor

    def build(self, task: Task) -> None:
        self.classify(task)
        self.teacher = EMA(self.student)
        self.register_buffer("lengths", torch.zeros(len(self.learned())))
        self.other = self._others(task)

    def learned(self) -> dict[str, Tensor]:
        return {name: p for name, p in self.student.named_parameters() if p.requires_grad}

    def losses(self, labelled: Batch, unlabelled: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        theta = {name: p.detach() for name, p in self.learned().items()}
        with untracked(self.student):
            if self.settings.look == "deep" or not self.settings.ahead:
                for _ in range(self.settings.ahead):
                    self.teach(theta)
                    theta = self.stepped(theta, labelled, unlabelled)
            else:
                first = self.settings.ahead * self.step
                futures = [self.stepped(theta, **self.other(first + k)) for k in range(self.settings.ahead)]
                theta = {name: torch.stack([future[name] for future in futures]).mean(0) for name in theta}
            self.teach(theta)
        self.before = [p.detach().clone() for p in self.learned().values()]
        return self.terms(self.student, labelled, unlabelled)

    def terms(self, answer: Callable[[Inputs], Tensor], labelled: Batch, unlabelled: Batch) -> dict[str, Tensor]:
        """What a student who gives ``answer`` loses on the labels and on those of the teacher as it is, ``[B]`` each."""
        x, weak, strong = labelled.view("weak"), unlabelled.view("weak"), unlabelled.view("strong")
        assert x.truth is not None and weak.place is not None and strong.place is not None, "views of such data have them"
        said, size = self.teacher(unlabelled, weak).logits, weak.inputs["pixels"].shape[-1]
        assert said is not None, "the average of a student with classes has logits"
        confidence, classes = said[..., :size, :size].float().softmax(1).max(1)
        there = maths.between(strong.place, weak.place)
        sure = maths.carried(confidence, there, size, 0.0) >= self.settings.threshold
        pseudo = maths.carried(classes, there, size, maths.UNLABELLED)
        return {
            "labelled": labelled.weighted(maths.pixel_cross_entropy(answer(x.inputs), x.truth)),
            "unlabelled": self.settings.weight * sure.float().mean((1, 2)) * maths.pixel_cross_entropy(answer(strong.inputs), pseudo),
        }

    def stepped(self, theta: dict[str, Tensor], labelled: Batch, unlabelled: Batch) -> dict[str, Tensor]:
        """The weights after a trial step from ``theta``."""
        leaves = {name: weight.detach().requires_grad_() for name, weight in theta.items()}
        losses = self.terms(lambda inputs: functional_call(self.student, leaves, (inputs,)), labelled, unlabelled)
        loss = torch.stack([loss.mean() for loss in losses.values()]).sum()
        slopes = [collective.total(slope) for slope in torch.autograd.grad(loss, list(leaves.values()))]
        lengths = self.settings.stride * self.lengths / torch.stack(torch._foreach_norm(slopes)).clamp_min(1e-12)
        return {name: weight - length * slope for (name, weight), slope, length in zip(theta.items(), slopes, lengths, strict=True)}

    def teach(self, theta: dict[str, Tensor]) -> None:
        """Move the teacher towards a student."""
        own = {name: p for name, p in self.teacher.student.named_parameters() if name in theta}
        maths.ema_update(own.values(), theta.values(), maths.schedules.ema_warmup(self.step, self.settings.momentum))
        for buffer, theirs in zip(self.teacher.student.buffers(), self.student.buffers(), strict=True):
            buffer.copy_(theirs)

    def _others(self, task: Task) -> Callable[[int], dict[str, Batch]]:
        """Batches by number that no real step learns."""
        samples, order, views = self.samples(), task.key("other batches"), task.key("other views")
        streams = {name: sampler.Stream(some, task.settings.train.batch, order) for name, some in samples.items()}

        def other(number: int) -> dict[str, Batch]:
            where, device = (number, collective.rank(), collective.world()), self.lengths.device
            return {name: samples[name].batch(stream.indices(*where), views, number, device) for name, stream in streams.items()}

        return other

    def after_step(self) -> None:
        now = [p.detach() for p in self.learned().values()]
        self.lengths.copy_(torch.stack(torch._foreach_norm(torch._foreach_sub(now, self.before))))
