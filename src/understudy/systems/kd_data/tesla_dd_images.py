"""The learning of TESLA's images: a few steps on them must lead from where an expert was to where it came to."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from understudy import collective, keyed, maths
from understudy.data import known
from understudy.data.sampler import Stream
from understudy.data.samples import InMemory, Samples
from understudy.engine import distribution
from understudy.engine.run import write_atomically
from understudy.errors import UserError
from understudy.models.norm import untracked
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task

card = Card(
    slug="tesla-dd-images",
    id="s136",
    title="Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory: the images",
    paper="2211.10586",
    year=2023,
    family="kd-data",
    modalities=("image",),
    needs="labels",
    idea="Experts learn the real data by plain gradient descent, and where they were after every epoch is kept. A few images are learned so that some steps on them lead "
    "from an expert's place to where it was some epochs later. Only the sum of the steps' gradients enters the distance, so its gradient by the images falls into one "
    "part for every step, and no more than one graph is ever held. The labels of the images are the classes of the real ones that they began as, or what the experts say of these at their ends.",
    equations=(
        "theta_0 = an expert after epoch t, theta* = the same after epoch t + M",
        "soft labels: y = mean over experts of softmax f(x at first; where the expert ended)",
        "theta_(i+1) = theta_i - a g_i, g_i = grad CE(y_i, f(x_i; theta_i)), i < N",
        "loss = |theta_N - theta*|^2 / |theta_0 - theta*|^2",
        "d loss / d x_i = -2 a (theta_N - theta*) . d g_i / d x_i / |theta_0 - theta*|^2, each theta_i held fixed; d loss / d a alike",
    ),
    unknown="Released code labels the images anew at every step by that step's expert, for ImageNet alone. So they run after their own labels: at 8x8 pixels the distance then rose. "
    "Here labels are given once. Images are kept in [0, 1] and learned with AdamW, where released code lets them leave it and uses momentum. No augmentation (DSA), no ZCA.",
)


class TeslaDDImagesSettings(Settings):
    """Settings of ``tesla-dd-images``."""

    per_class: int = Field(1, ge=1, description="images that are learned of every class (2211.10586: 1, 10, 50)")
    soft: bool = Field(
        False,
        description="label the images by what experts say of those that they began as; otherwise by the class of these (2211.10586, section 3.3; released code: off)",
    )
    experts: int = Field(5, ge=1, description="networks that learn the real data (released code: 100)")
    epochs: int = Field(10, ge=1, description="of every expert (released code: 50)")
    expert_batch: int = Field(64, ge=1, description="real images of an expert's step (released code: 256)")
    expert_rate: float = Field(0.1, gt=0, description="the experts' learning rate, plain gradient descent (released code: 0.01)")
    start: int = Field(3, ge=1, description="t is drawn below this (released code: 2 to 40)")
    ahead: int = Field(1, ge=1, description="M, epochs that the images must make up for (released code: 2 to 3)")
    inner: int = Field(10, ge=1, description="N, steps on the images (released code: 10 to 80)")
    inner_batch: int = Field(100, ge=1, description="images of such a step, at most (released code: all, or up to 1,000)")
    rate: float = Field(0.1, gt=0, description="a at first; it is learned with the images (released code: 0.01)")
    rate_scale: float = Field(1.0, ge=0, description="learning rate of log a, in multiples of that of the images (ours)")


class TeslaDDImages(Objective):
    """Matching trajectories."""

    card = card
    Settings = TeslaDDImagesSettings
    defaults = {"optim.lr": 0.05, "optim.beta1": 0.5, "optim.warmup": 0.0, "train.batch": 1}
    reads = {}
    coupled = True  # every process does the same
    shards = False
    targets: Tensor

    def build(self, task: Task) -> None:
        s, real = self.settings, task.train.labelled
        if s.ahead > s.epochs:
            raise UserError(f"tesla-dd-images looks {s.ahead} epochs ahead and an expert has {s.epochs}; lower ahead or raise epochs")
        self.classify(task)
        self.student.requires_grad_(False).train()
        few = known.few_labels(real, s.per_class, task.key("images")).labelled
        self.modality, self.truth = real.modality, few.labels
        self.images = nn.Parameter(few.batch(torch.arange(len(few))).view().inputs["pixels"].clone())
        self.log_rate = nn.Parameter(torch.tensor(s.rate).log())
        self.paths = [self.expert(number, real) for number in range(s.experts)]
        self.to(self.paths[0].device)
        self.register_buffer("targets", self.labels())

    def expert(self, number: int, real: Samples) -> Tensor:
        """Where the weights of an expert were after 0, 1, ... epochs: ``[epochs + 1, P]``. One that an earlier start has finished is read."""
        s, task, device = self.settings, self.task, distribution.start(self.task.settings.device)
        file = task.run.folder / "experts" / f"{number}.safetensors"
        found = file.exists()
        collective.barrier()
        if found:
            return load(file.read_bytes())["path"].to(device)
        model = self.student.reinitialised(task.key(f"expert {number}")).to(device).train().requires_grad_(False)
        stream = Stream(real, min(s.expert_batch, len(real)), task.key(f"order {number}"))
        at, path = self.place(model), []
        for step in range(s.epochs * (a_round := -(-len(real) // stream.batch)) + 1):
            if step % a_round == 0:
                path.append(at)
                task.run.listener.progress(number * s.epochs + len(path) - 1, s.experts * s.epochs)
            batch = real.batch(stream.indices(step), task.key(f"views {number}"), step, device)
            at = at - s.expert_rate * self.gradient(model, at, batch.view("plain").inputs["pixels"], batch.soft_labels())
        if collective.rank() == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, save({"path": torch.stack(path).cpu()}))
        return torch.stack(path)

    def place(self, model: Student) -> Tensor:
        """All weights of ``model`` as one vector ``[P]``."""
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    def said(self, model: Student, at: Tensor, images: Tensor) -> Tensor:
        """Logits of ``images`` by ``model`` with the weights ``at``."""
        pieces = at.split([p.numel() for p in model.parameters()])
        weights = {name: piece.view_as(p) for (name, p), piece in zip(model.named_parameters(), pieces, strict=True)}
        with untracked(model):
            return functional_call(model, weights, ({"pixels": images},))  # type: ignore[no-any-return]

    def gradient(self, model: Student, at: Tensor, images: Tensor, y: Tensor, create_graph: bool = False) -> Tensor:
        """g: of the mean cross-entropy by the weights, ``[P]``; with ``create_graph``, to be taken further, by the images."""
        # Attention has a second derivative in its plain form only.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            at = at.detach().requires_grad_()
            loss = maths.soft_cross_entropy(self.said(model, at, images), y).mean()
            return torch.autograd.grad(loss, at, create_graph=create_graph)[0]

    def losses(self) -> dict[str, Tensor]:  # type: ignore[override]
        s, key = self.settings, self.task.key("steps")
        path = self.paths[int(keyed.fold(key, "expert", self.step)) % s.experts]
        t = int(keyed.fold(key, "epoch", self.step)) % min(s.start, s.epochs - s.ahead + 1)
        begin, goal = path[t], path[t + s.ahead]
        y, images, rate = self.targets, self.images.detach(), self.log_rate.detach().exp()
        places = self.walk(begin, images, y, rate)
        left, distance = places[-1] - goal, (begin - goal).square().sum()
        # Each step by itself: its graph is gone before the next one is made.
        images.requires_grad_()
        push = -2 * rate * left / distance
        by_images = torch.zeros_like(images)
        for i, at in enumerate(places[:-1]):
            rows = self.rows(i)
            found = self.gradient(self.student, at, images[rows], y[rows], create_graph=True)
            by_images += torch.autograd.grad(found @ push, images)[0]
        by_rate = 2 * left @ (places[-1] - begin) / distance  # d theta_N / d log a = theta_N - theta_0
        value = left.square().sum() / distance
        # A number with this value and these gradients, of which every process has the whole and not a share.
        moved = ((self.images * by_images).sum() + self.log_rate * by_rate) / collective.world()
        return {"distance": value + moved - moved.detach()}

    def walk(self, at: Tensor, images: Tensor, y: Tensor, rate: Tensor) -> list[Tensor]:
        """theta_0, theta_1, ... theta_N."""
        places = [at]
        for i in range(self.settings.inner):
            rows = self.rows(i)
            places.append(places[-1] - rate * self.gradient(self.student, places[-1], images[rows], y[rows]))
        return places

    def rows(self, i: int) -> Tensor:
        """Which images step i of the walk takes."""
        count, batch = len(self.images), self.settings.inner_batch
        if count <= batch:
            return torch.arange(count, device=self.images.device)
        return keyed.choice(keyed.fold(self.task.key("walk"), self.step, i), count, batch).to(self.images.device, non_blocking=True)

    @torch.no_grad()
    def labels(self) -> Tensor:
        """What the experts say at their ends of the images as they begin, or the classes of these: ``[N, C]``."""
        if not self.settings.soft:
            return F.one_hot(self.truth, len(self.task.classes)).to(self.images)
        return torch.stack([self.said(self.student, path[-1], self.images).softmax(-1) for path in self.paths]).mean(0)

    def after_step(self) -> None:
        self.images.clamp_(0, 1)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Nothing decays: an image is no weight."""
        return [{"params": [self.images], "weight_decay": 0.0}, {"params": [self.log_rate], "weight_decay": 0.0, "lr_scale": self.settings.rate_scale}]

    def distilled(self) -> Samples:
        """The images as they are kept, in bytes, and their labels."""
        pixels = (self.images.detach() * 255).round().to(torch.uint8).cpu()
        ids = tuple(f"distilled/{self.task.classes[y]}/{i}" for i, y in enumerate(self.truth.tolist()))
        return Samples(self.modality, InMemory({"image": pixels}), ids, self.truth, self.task.classes, targets=self.targets.cpu())

    def result(self) -> Student:
        """Where the student comes to on its own walk over the images."""
        y, images, rate = self.targets, self.images.detach(), self.log_rate.detach().exp()
        at = self.walk(self.place(self.student), images, y, rate)[-1]
        torch.nn.utils.vector_to_parameters(at, self.student.parameters())
        with torch.no_grad():
            for _ in range(60):  # batch normalisations have to know what they will see
                self.student({"pixels": images})
        if collective.rank() == 0:
            few = self.distilled()
            kept = {"image": few.encoded.raw(few.positions)["image"], "labels": few.labels, "targets": self.targets.cpu()}
            write_atomically(self.task.run.folder / "distilled.safetensors", save(kept))
        collective.barrier()
        return self.student.requires_grad_(True).eval()

    def facts(self) -> dict[str, Any]:
        return {"images": len(self.images), "rate": float(self.log_rate.detach().exp())}
