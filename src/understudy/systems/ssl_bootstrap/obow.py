"""OBoW: from a small crop, the student predicts which visual words the teacher finds in the whole image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from understudy import keyed, maths
from understudy.data.samples import Batch
from understudy.engine.watch import health
from understudy.errors import UserError
from understudy.models.heads import MLP
from understudy.models.predict import evaluating
from understudy.models.queue import Queue
from understudy.models.taps import Taps, tokens
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="obow",
    id="s423",
    title="OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised Learning",
    paper="2012.11552",
    year=2021,
    family="ssl-bootstrap",
    modalities=("image",),
    needs="nothing",
    idea="The teacher, a moving average of the student, assigns the local features of an image to a vocabulary of visual words: local features of past images, in a "
    "queue. What it finds is a bag of words, without places. The student predicts the bag from crops and small patches of the image, so it must know the "
    "context. Its classifier is made from the vocabulary by a small network, as the words change all the time; two layers have a vocabulary each.",
    equations=(
        "a_i = softmax over words v of -(1 / delta) |t_i - v|^2 / d, t_i the teacher's local features, d the moving mean of min_v |t_i - v|^2",
        "bag_v = max over places i of a_iv, scaled to sum 1",
        "p = softmax(kappa G(V) f), f the student's pooled features of a crop, G a network from words to weights of length 1",
        "loss = sum over kinds of crops of the mean over crops and layers of -sum_v bag_v log p_v",
        "V <- one local feature (3 x 3 mean) of every image in place of the oldest words; teacher <- m teacher + (1 - m) student",
    ),
    unknown="The published maps lose their border before words are assigned, which would leave little of small ones, and keep it here. Its vocabulary starts as "
    "positive normal noise, as here; d starts at 0.5, and follows from the first step on here. The student is the result, as published.",
)


class OBoWSettings(Settings):
    """Settings of ``obow``."""

    words: int = Field(8192, ge=2, description="words of each vocabulary (2012.11552, section 4: 8192)")
    levels: tuple[int, ...] = Field(
        (-2, -1), description="blocks of the backbone that have a vocabulary, -1 the last (2012.11552, section 3.5: the last two stages)"
    )
    inverse: float = Field(15.0, gt=0, description="1 / delta, sharpness of the assignment (released code: 15)")
    kappa: float = Field(8.0, gt=0, description="multiplies the student's features (released code: 8)")
    hidden: int | None = Field(None, ge=1, description="width inside G; null: twice the backbone's (released code)")
    momentum: float = Field(0.99, ge=0, le=1, description="m at the first step, half a cosine up to 1 (released code: 0.99)")
    crops: int = Field(2, ge=0, description="crops of the image's size that the student sees (released code: 2)")
    crop_scale: tuple[float, float] = Field((0.08, 0.6), description="their area, as a share of the image (released code: 0.08 to 0.6)")
    patches: int = Field(5, ge=0, description="small crops that the student sees (released code: 5)")
    patch_scale: tuple[float, float] = Field((0.05, 0.3), description="their area, as a share of the image (ours; released: 96 pixels of about 200)")


class OBoW(Objective):
    """Predicting bags of visual words."""

    card = card
    Settings = OBoWSettings
    defaults = {"optim.name": "sgd", "optim.lr": 0.03, "optim.weight_decay": 1e-4, "optim.warmup": 0.05, "train.batch": 256}
    coupled = True  # the vocabulary takes a whole batch at a time
    typical: Tensor

    def check(self, task: Task) -> None:
        super().check(task)
        if self.settings.crops + self.settings.patches == 0:
            raise UserError("obow shows the student nothing: set obow.crops or obow.patches above 0")

    def build(self, task: Task) -> None:
        s, width = self.settings, self.student.backbone.width
        self.paths = [f"backbone.blocks.{block}" for block in s.levels]
        with evaluating(self.student), Taps(self.student, self.paths) as taps:
            self.student.features(task.train.batch(torch.arange(1)).view().inputs)
        widths = [tokens(taps[path]).shape[-1] for path in self.paths]
        self.teacher = EMA(self.student, layers=self.paths)
        self.vocabularies = nn.ModuleList(Queue(s.words, w) for w in widths)
        for level, vocabulary in enumerate(self.vocabularies):
            vocabulary.features.copy_(keyed.normal(task.key(f"words {level}"), vocabulary.features.shape).clamp_min(0))  # type: ignore[operator, union-attr, arg-type]
        self.generators = nn.ModuleList(MLP([w, s.hidden or 2 * width, width], task.key(f"generator {i}")) for i, w in enumerate(widths))
        self.register_buffer("typical", torch.full((len(widths),), 0.5))
        self.arriving: list[Tensor] = []
        self.nearest = self.typical

    def bags(self, batch: Batch) -> list[Tensor]:
        """What the teacher finds, one bag ``[B, words]`` a level; keeps what the vocabularies will take up."""
        local = [tokens(layer) for layer in self.teacher(batch, batch.view("weak")).layers.values()]
        found = [maths.bag_of_words(t, v.features, d, self.settings.inverse) for t, v, d in zip(local, self.vocabularies, self.typical, strict=True)]  # type: ignore[arg-type]
        self.nearest = torch.stack([distance for _, distance in found])
        place = keyed.uniform(batch.random("word"))
        self.arriving = [pick(averaged(t), place) for t in local]
        return [bag for bag, _ in found]

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s, batch = self.settings, everything
        bags = self.bags(batch)
        weights = [F.normalize(g(F.normalize(v.features, dim=-1)), dim=-1) for g, v in zip(self.generators, self.vocabularies, strict=True)]  # type: ignore[arg-type]
        views = {"crops": [batch.view("augmented", i, scale=s.crop_scale, solarise=0.0) for i in range(s.crops)]}
        views["patches"] = [batch.view("local", i, scale=s.patch_scale, solarise=0.0) for i in range(s.patches)]
        terms = {}
        for kind, some in views.items():
            if some:
                f = self.student.features({"pixels": torch.cat([view.inputs["pixels"] for view in some])}).pooled
                self.watched = {"features": f[: len(batch)].detach(), "teacher": bags[-1]}
                losses = [maths.soft_cross_entropy(s.kappa * f @ w.T, bag.repeat(len(some), 1)) for w, bag in zip(weights, bags, strict=True)]
                terms[kind] = torch.stack(losses).mean(0).view(len(some), -1).mean(0)
        return terms

    def after_step(self) -> None:
        self.typical.lerp_(self.nearest.to(self.typical.dtype), 1 - maths.schedules.ema_warmup(self.step, 0.99))
        for vocabulary, words in zip(self.vocabularies, self.arriving, strict=True):
            vocabulary.push(words)  # type: ignore[operator]
        self.teacher.update(self.student, maths.schedules.cosine(self.step, self.steps, self.settings.momentum, 1.0))

    def facts(self) -> dict[str, Any]:
        """How the last batch looked: effective rank of the features, entropies of the bags as shares of the logarithm of the words."""
        return health(self.watched)


def averaged(local: Tensor) -> Tensor:
    """The mean of every 3 x 3 neighbourhood of a square map ``[B, T, D]``; the map itself where it is smaller."""
    side = round(local.shape[1] ** 0.5)
    if side < 3 or side**2 != local.shape[1]:
        return local
    return tokens(F.avg_pool2d(local.transpose(1, 2).unflatten(2, (side, side)), 3, 1))


def pick(local: Tensor, place: Tensor) -> Tensor:
    """One place of each sample, by a number in [0, 1): ``[B, T, D]``, ``[B]`` -> ``[B, D]``."""
    return local[torch.arange(len(local), device=local.device), (place * local.shape[1]).long()]
