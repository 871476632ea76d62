"""CAE-DFKD: a generator makes images of every class for a teacher whose data are gone, and the student learns answers and embeddings on them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from understudy import collective, keyed, maths, models
from understudy.data.modalities.text import TextModality
from understudy.errors import UserError
from understudy.models.backbone import seeded
from understudy.models.norm import BatchNorm2d, untracked
from understudy.models.optimization import decay_groups
from understudy.models.predict import evaluating
from understudy.models.queue import Queue
from understudy.models.student import Student
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import Frozen

card = Card(
    slug="cae-dfkd",
    id="s518",
    title="CAE-DFKD: Bridging the Transferability Gap in Data-Free Knowledge Distillation",
    paper="2504.21478",
    year=2025,
    family="kd-datafree",
    modalities=("image",),
    needs="teacher",
    idea="No image is looked at. A generator turns the embedding of a class and noise of several strengths into an image; it is told to make images that the teacher "
    "is sure of, that leave the teacher's batch normalisations with the statistics of its training, and that teacher and student disagree about. On these images, and "
    "some from before, the student learns the teacher's answers, and embeddings that are near to the teacher's of the same class and far from those of others.",
    equations=(
        "x = G(e_y + m n), e_y of class y, n ~ N(0, I / width), m one of several magnitudes",
        "generator: a CE(y, f_T(x)) + b sum over layers l of (|mean_l(x) - mean_l| + |var_l(x) - var_l|) - c 1[both say the same] KL(f_T(x) || f_S(x))",
        "student: T^2 KL(f_T(x) || f_S(x)) - d log (sum over j with y_j = y of w_j) / (sum over j of w_j), w_j = exp(cos(P z_S(x), z_T(x_j)) / t)",
    ),
    unknown="The loss in detail, its weights and code could not be found; the generator's terms and their weights are those of NAYER (2310.00258), on which it builds. "
    "There generator and student take turns of many steps, and here both take one at every step. The generator is not begun anew from time to time. The paper adds noise "
    "of several sources to an embedding, each with its own magnitude; which sources is not known to us, and all are normal here.",
)


class CAEDFKDSettings(Settings):
    """Settings of ``cae-dfkd``."""

    words: str = Field(
        "", description="text model that embeds the names of the classes, such as hf:sentence-transformers/all-MiniLM-L6-v2; empty: a random direction for each"
    )
    magnitudes: tuple[float, ...] = Field(
        (0.5, 1.0, 2.0), description="m, lengths of the noise that is added to an embedding of length 1, one drawn for every image (ours)"
    )
    width: int = Field(64, ge=4, description="channels of the generator's first map (ours)")
    rate: float = Field(1.0, gt=0, description="the generator's learning rate, in multiples of the student's (ours)")
    sure: float = Field(0.5, ge=0, description="a, weight of the teacher's certainty (code of 2310.00258: 0.5)")
    statistics: float = Field(10.0, ge=0, description="b, weight of the batch normalisations' statistics, a mean over layers (code of 2310.00258: 10)")
    hard: float = Field(1.33, ge=0, description="c, weight of the disagreement (code of 2310.00258: 1.33)")
    temperature: float = Field(4.0, gt=0, description="T, divides both sides' logits (ours)")
    embedding: float = Field(1.0, ge=0, description="d, weight of the contrast of embeddings (ours)")
    contrast: float = Field(0.1, gt=0, description="t, divides the cosines (ours)")
    memory: int = Field(2048, ge=1, description="past images that the student goes on learning from, as many a step as new ones (ours)")


class CAEDFKD(Objective):
    """Distillation without data, by answers and embeddings."""

    card = card
    Settings = CAEDFKDSettings
    defaults = {"optim.lr": 3e-3, "optim.weight_decay": 1e-4, "train.batch": 128}
    reads = {}
    coupled = True  # statistics and contrast are of the whole batch
    shards = False
    embeddings: Tensor

    def build(self, task: Task) -> None:
        s, model = self.settings, task.teacher.model if isinstance(task.teacher, Frozen) else None
        if not isinstance(model, Student) or model.head is None or model.classes != task.classes:
            raise UserError("cae-dfkd takes gradients through its teacher, which must be a model with the data's classes: give --teacher run:FOLDER")
        self.classify(task)
        self.teacher = task.teacher
        shape = task.train.batch(torch.arange(1)).view().inputs["pixels"].shape[1:]
        names = embedded(task.classes, s.words, task.key("words")) if s.words else keyed.normal(task.key("classes"), (len(task.classes), 64))
        self.register_buffer("embeddings", F.normalize(names, dim=-1))
        self.generator = Generator(names.shape[1], s.width, shape[0], shape[1], task.key("generator"))
        with seeded(task.key("projector")):
            self.projector = nn.Linear(self.student.backbone.width, model.backbone.width)
        self.memory = Queue(s.memory, shape.numel())
        self.shape = shape

    def parameter_groups(self, weight_decay: float) -> list[dict[str, object]]:  # type: ignore[override]
        rest = [group for part in (self.student, self.projector) for group in decay_groups(part, weight_decay)]
        return rest + [{**group, "lr_scale": self.settings.rate} for group in decay_groups(self.generator, weight_decay)]

    def losses(self) -> dict[str, Tensor]:  # type: ignore[override]
        images, y = self.made()
        self.arriving = images.detach().flatten(1), y
        return {**self.generators_turn(images, y), **self.students_turn(*self.remembered(*self.arriving))}

    @property
    def model(self) -> Student:
        """The teacher's model, through which gradients go."""
        return self.teacher.model  # type: ignore[union-attr, return-value]

    def made(self) -> tuple[Tensor, Tensor]:
        """This process's share of the step's new images ``[B, C, H, W]``, and their classes."""
        e, index = self.embeddings, self.places()
        keys, y = keyed.fold(self.task.key("images"), self.step, index), index % len(e)
        magnitudes = torch.tensor(self.settings.magnitudes).to(e.device, non_blocking=True)
        magnitude = magnitudes[keyed.integers(keyed.fold(keys, "magnitude"), len(magnitudes))]
        noise = keyed.normal(keyed.fold(keys, "noise"), (e.shape[1],)) / e.shape[1] ** 0.5
        return self.generator(e[y] + magnitude.unsqueeze(1) * noise), y

    def places(self) -> Tensor:
        """Which of the step's images are this process's."""
        batch = self.task.settings.train.batch // collective.world()
        return torch.arange(batch, device=self.embeddings.device) + collective.rank() * batch

    def generators_turn(self, images: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What the generator learns; no parameter of the student's is touched."""
        s, student, model = self.settings, self.student, self.model
        with Statistics(model) as statistics:
            told = model({"pixels": images})
        still = {name: p.detach() for name, p in student.named_parameters()}
        with untracked(student):
            said = functional_call(student, still, ({"pixels": images},))
        agreed = (told.argmax(-1) == said.argmax(-1)).detach()
        return {
            "sure": s.sure * F.cross_entropy(told, y, reduction="none"),
            "statistics": s.statistics * statistics.mean(images),
            "hard": -s.hard * agreed * maths.kl(teacher_logits=told, student_logits=said),
        }

    def students_turn(self, images: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What the student learns on images that are given."""
        s, model = self.settings, self.model
        with torch.no_grad():
            theirs = model.features({"pixels": images})
            told = model.logits(theirs)
        own = self.student.features({"pixels": images})
        said = self.student.logits(own)
        self.watched = {"teacher": told.softmax(-1), "student": said.detach().softmax(-1), "features": own.pooled.detach()}
        bank, labels = collective.gather(theirs.pooled), collective.gather(y)
        everyone = torch.ones(len(y), len(bank), dtype=torch.bool, device=y.device)
        apart = maths.leave_one_out(self.projector(own.pooled), y, bank, labels, everyone, len(bank), s.contrast)
        return {"answer": maths.kl(teacher_logits=told, student_logits=said, temperature=s.temperature), "embedding": s.embedding * apart}

    def remembered(self, images: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """New images ``[B, C * H * W]`` with as many from before."""
        there = min(self.step * self.task.settings.train.batch, len(self.memory.features))
        if there:
            index = keyed.integers(keyed.fold(self.task.key("memory"), self.step, self.places()), there)
            images, y = torch.cat([images, self.memory.features[index]]), torch.cat([y, self.memory.labels[index]])
        return images.unflatten(1, self.shape), y

    def after_step(self) -> None:
        self.memory.push(*self.arriving)


class Statistics:
    """While it is open, how far what enters each batch normalisation of a model is from what that has seen in training."""

    def __init__(self, model: nn.Module):
        self.norms = [norm for norm in model.modules() if isinstance(norm, _BatchNorm) and norm.running_mean is not None]
        self.distances: list[Tensor] = []

    def __enter__(self) -> Statistics:
        self.hooks = [norm.register_forward_pre_hook(self.compare) for norm in self.norms]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def compare(self, norm: nn.Module, entering: tuple[Tensor, ...]) -> None:
        self.distances.append(maths.moments_distance(entering[0], norm.running_mean, norm.running_var))  # type: ignore[arg-type]

    def mean(self, images: Tensor) -> Tensor:
        """Over the layers: a scalar; zero where there are none."""
        return torch.stack(self.distances).mean() if self.distances else 0.0 * images.sum()


class Generator(nn.Module):
    """From embeddings ``[B, E]`` to square images in [0, 1] ``[B, C, H, H]``: a map of a quarter of the side, doubled twice."""

    def __init__(self, entering: int, width: int, channels: int, size: int, key: int):
        super().__init__()
        self.size, self.first = size, -(-size // 4)
        with seeded(key):
            self.enter = nn.Linear(entering, width * self.first**2)
            self.norm = BatchNorm2d(width)
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Conv2d(before, after, 3, padding=1), BatchNorm2d(after), nn.LeakyReLU(0.2))
                for before, after in ((width, width), (width, width // 2))
            )
            self.leave = nn.Sequential(nn.Conv2d(width // 2, channels, 3, padding=1), BatchNorm2d(channels))

    def forward(self, e: Tensor) -> Tensor:
        x = self.norm(self.enter(e).view(len(e), -1, self.first, self.first))
        for layer in self.layers:
            x = layer(F.interpolate(x, scale_factor=2))
        return self.leave(x)[:, :, : self.size, : self.size].sigmoid()  # type: ignore[no-any-return]


def embedded(classes: tuple[str, ...], name: str, key: int) -> Tensor:
    """What the text model ``name`` makes of each class's name: ``[C, E]``."""
    model = models.build(name, TextModality.train(classes, vocabulary=300, length=32), (), key)
    modality = model.modality
    raw = modality.collate([modality.encode(text) for text in classes])
    with evaluating(model):
        return model.features(modality.view(raw, "plain", keyed.of_texts(classes)).inputs).pooled
