"""BOOT: a diffusion model is distilled into one step with nothing but noise, each time on the path learning from the one before."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from understudy import collective, keyed, maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models import painting
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA, Frozen

card = Card(
    slug="boot",
    id="s064",
    title="BOOT: Data-free Distillation of Denoising Diffusion Models with Bootstrapping",
    paper="2306.05544",
    year=2023,
    family="gen-distill",
    modalities=("image",),
    needs="teacher",
    idea="The student takes noise and a time and says at once where the teacher's path from that noise is by then, with the noise itself taken away. It learns time by time: its own "
    "answer at a noisier time, moved on by one step of the teacher, is the target a little further down. At the beginning of the path it must say what the teacher says. "
    "No image is looked at: samples only count the steps.",
    equations=(
        "g(e, t) = e - net(e, t); x_t = (1 - t) g(e, t) + t e; f(x_t, t) = x_t - t v_teacher(x_t, t)",
        "target at s = t - delta: r sg[g(e, t)] + (1 - r) f(x_t, t), r = s (1 - t) / (t (1 - s))",
        "loss = |g(e, s) - target|^2 + boundary |g(e, 1) - f(e, 1)|^2, a mean over pixels",
        "an image: g(e, 0), in one step",
    ),
    unknown="The paper's teachers have a curved path and its own noise schedules; ours is the straight path of flow matching, where the same equations hold. The size of a step, the weights "
    "over time and the boundary's weight are ours, as is g's form, which makes the teacher's own weights a right start at t = 1.",
)


class BOOTSettings(Settings):
    """Settings of ``boot``."""

    delta: float = Field(0.05, gt=0, lt=1, description="how far a step of the teacher goes, as a share of the path (ours)")
    boundary: float = Field(1.0, ge=0, description="weight of the agreement with the teacher at the beginning of the path (ours)")
    momentum: float = Field(0.99, ge=0, lt=1, description="share of itself that the average of the weights, which is the result, keeps at a step (ours)")


class BOOT(Objective):
    """Bootstrapping along the teacher's path. The result makes an image in one step."""

    card = card
    Settings = BOOTSettings
    defaults = {"optim.lr": 5e-4, "optim.weight_decay": 0.0, "optim.warmup": 0.05, "train.batch": 64}

    def check(self, task: Task) -> None:
        super().check(task)
        painting.painter(task.student, "boot")
        teacher = task.teacher.model if isinstance(task.teacher, Frozen) else None
        if not isinstance(teacher, Student):
            raise UserError("boot follows the path of a model that makes images; give one that flow-matching or repa has trained, with --teacher run:FOLDER")
        if painting.painter(teacher, "boot's teacher").size != painting.painter(task.student).size or teacher.spec.get("jumps"):
            raise UserError("boot needs a teacher that makes images step by step, of the student's size")

    def build(self, task: Task) -> None:
        assert isinstance(task.teacher, Frozen), "checked"
        self.teacher = task.teacher
        self.student = self.student.with_head((), 0)
        self.model, theirs = painting.painter(self.student), painting.painter(self.teacher.model)  # type: ignore[arg-type]
        if {n: p.shape for n, p in self.model.state_dict().items()} == {n: p.shape for n, p in theirs.state_dict().items()}:
            self.model.load_state_dict(theirs.state_dict())
        self.student.spec = {**self.student.spec, "jumps": True}
        self.average = EMA(self.student)

    def predicted(self, noisy: Tensor, t: Tensor) -> Tensor:
        """f: the image that the teacher expects."""
        with torch.no_grad():
            return maths.flow.cleaned(noisy, self.teacher.model.backbone.velocity(noisy, t)[0], t)  # type: ignore[union-attr, operator]

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, keys = self.settings, everything.random("path")
        noise = painting.noise(self.model, keys)
        t = keyed.uniform(keyed.fold(keys, "time"), low=s.delta, high=1.0)
        later, one = t - s.delta, torch.ones_like(t)
        with torch.no_grad():
            signal = painting.jumped(self.model, noise, t)
            target = maths.flow.signal_step(signal, self.predicted(maths.flow.noised(signal, noise, t), t), t, later)
        bootstrapped = (painting.jumped(self.model, noise, later) - target).square().mean((1, 2, 3))
        beginning = (painting.jumped(self.model, noise, one) - self.predicted(noise, one)).square().mean((1, 2, 3))
        return {"bootstrap": bootstrapped, "boundary": s.boundary * beginning}

    def after_step(self) -> None:
        self.average.update(self.student, maths.schedules.ema_warmup(self.step, self.settings.momentum))

    def result(self) -> Student:
        return self.average.student.requires_grad_(True)  # type: ignore[no-any-return]

    def facts(self) -> dict[str, Any]:
        """Sixteen images, as samples.png in the run's folder."""
        if collective.rank() == 0:
            keys = torch.as_tensor(keyed.fold(self.task.key("samples"), torch.arange(16)))
            painting.sheet(painting.paint(self.result(), keys)).save(self.task.run.folder / "samples.png")
        return {}
