"""ScaleKD: what the student sees is projected into the teacher, passes its last blocks, and must come out as what the teacher sees."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.projector import AttentionProjector
from understudy.models.taps import Taps
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import Frozen

card = Card(
    slug="scalekd",
    id="s074",
    title="ScaleKD: Strong Vision Transformers Could Be Excellent Teachers",
    paper="2411.06786",
    year=2024,
    family="kd-feature",
    modalities=("image",),
    needs="teacher",
    idea="A convolutional student and a transformer do not see alike. Small cross-attentions, thrown away afterwards, ask the student's maps what stands at each of the teacher's places. What the "
    "inner map answers passes the teacher's own last blocks, frozen, and asks the last map in turn; both must give the teacher's tokens. Twice: once as they are, and once without "
    "their mean over the image, which outshines the rest.",
    equations=(
        "u = blocks_T(A1(inner map; learned questions)), v = A2(last map; u), t = the teacher's tokens, each normalised",
        "d(x, t) = mean over places of | x / |x| - t / |t| |^2",
        "loss = (1 - w) CE(y, p) + w KL(q || p) + a (d(u, t) + d(v, t)) + b (d(Pu', Pt) + d(Pv', Pt))",
        "P x = inverse DCT of the DCT of x with the constant coefficient set to 0 = x - mean over places of x; u' and v' by projectors of their own",
    ),
    unknown="The released code sums distances over the places of a 7x7 grid, here they are averaged and the weights 49 times as large. A plain transformer has no stages: its last stage are its last blocks here. A teacher's class token does not take part.",
)


class ScaleKDSettings(Settings):
    """Settings of ``scalekd``."""

    spatial: float = Field(4.0, ge=0, description="a, weight of the distance of tokens (released code: 0.08, summed over 49 places)")
    frequency: float = Field(3.0, ge=0, description="b, weight of the distance without the mean over the image (released code: 0.06, summed over 49 places)")
    weight: float = Field(0.5, ge=0, le=1, description="w, share of the teacher's probabilities; the rest are labels, where there are any (released code: 0.5)")
    later: int | None = Field(
        None, ge=1, description="the teacher's last blocks, which the student's inner map passes; null: a third of them (2411.06786: its last stage)"
    )
    sharpness: float = Field(5.0, gt=0, description="factor of the attention's scores before their softmax (released code: 5)")
    view: Literal["plain", "weak"] = Field("weak", description="what both sides see (2411.06786: crops and flips, or the strong ones of its students)")
    inner: str = Field("backbone.blocks.-2", description="the student's layer with the inner map (2411.06786: its last stage but one)")


class ScaleKD(Objective):
    """Tokens by cross-attention, through the teacher's last blocks."""

    card = card
    Settings = ScaleKDSettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 0.05}
    coupled = True  # the projectors' batch norms

    def build(self, task: Task) -> None:
        self.classify(task)
        teacher, one = task.teacher, task.train.batch(torch.arange(1))
        if not isinstance(teacher, Frozen):
            raise UserError("scalekd uses its teacher's last blocks, which must be a model's: give --teacher run:FOLDER or timm:NAME")
        self.teacher, blocks = teacher, insides(teacher.model)[0]
        self.later = self.settings.later or max(1, len(blocks) // 3)
        if self.later > len(blocks):
            raise UserError(f"the teacher has {len(blocks)} blocks, and scalekd.later={self.later} asks for more")
        with torch.no_grad():
            (_, told), (_, maps) = self.told(one), self.eval().maps(one)
        places, width = told.shape[1:]
        heads = next(heads for heads in (8, 4, 3, 2, 1) if width % heads == 0)
        self.projectors = nn.ModuleDict({
            f"{kind} {n}": AttentionProjector(x.shape[1], (x.shape[2], x.shape[3]), width, places, heads, task.key(f"{kind} {n}"), n == 1, self.settings.sharpness)
            for kind in ("spatial", "frequency") for n, x in enumerate(maps, 1)
        })  # fmt: skip

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        s = self.settings
        (answer, told), (logits, (inner, last)) = self.told(everything), self.maps(everything)
        self.watched = {"features": last.detach().mean((2, 3)), "student": logits.detach().softmax(-1)}
        terms = {
            "labels": (1 - s.weight) * (everything.labels >= 0) * maths.soft_cross_entropy(logits, everything.soft_labels()),
            "teacher": s.weight * maths.kl(teacher_logits=answer, student_logits=logits),
        }
        for kind, weight in (("spatial", s.spatial), ("frequency", s.frequency)):
            seen = self.perceived(self.projectors[f"{kind} 1"](inner), self.later)
            compared = [told, seen, self.perceived(self.projectors[f"{kind} 2"](last, seen), 0)]
            if kind == "frequency":
                compared = [maths.without_constant(tokens) for tokens in compared]
            target, *ends = compared
            terms[kind] = weight * torch.stack([2 * maths.cosine_distance(tokens, target).mean(1) for tokens in ends]).sum(0)
        return {name: everything.weighted(term) for name, term in terms.items()}

    def told(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teacher's logits and its tokens."""
        said = self.teacher(batch, batch.view(self.settings.view))
        if said.logits is None or said.tokens is None:
            raise UserError("scalekd learns tokens and answers, and its teacher gives only one of them: give a model with classes, trained on such data")
        return said.logits, said.tokens

    def maps(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The student's logits, and its inner and its last map ``[B, D, height, width]``."""
        with Taps(self.student, [self.settings.inner]) as taps:
            features = self.student.features(batch.view(self.settings.view).inputs)
        return self.student.logits(features), (as_map(taps[self.settings.inner]), as_map(features.tokens))

    def perceived(self, tokens: Tensor, blocks: int) -> Tensor:
        """What the teacher's last ``blocks`` and its last normalisation make of tokens. A gradient passes through them, none stays in them."""
        inner, norm = insides(self.teacher.model)
        for block in list(inner)[len(inner) - blocks :]:
            tokens = block(tokens)
        return norm(tokens)


def insides(model: nn.Module) -> tuple[nn.ModuleList | nn.Sequential, nn.LayerNorm]:
    """The blocks of a vision transformer, and the normalisation behind them. Raises UserError where it is none."""
    inside = getattr(getattr(model, "backbone", None), "model", getattr(model, "backbone", None))
    blocks, norm = getattr(inside, "blocks", None), getattr(inside, "norm", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not isinstance(norm, nn.LayerNorm):
        raise UserError(
            "scalekd learns from a vision transformer, and its teacher is none; give one such as run:FOLDER of a small-vit, or timm:deit_small_patch16_224"
        )
    return blocks, norm


def as_map(seen: Tensor) -> Tensor:
    """Tokens ``[B, T, D]`` of a square image as a map; a map as it is."""
    if seen.ndim == 4:
        return seen
    side = round(seen.shape[1] ** 0.5)
    if side**2 != seen.shape[1]:
        raise UserError(f"scalekd projects square maps, and the student's layer has {seen.shape[1]} tokens; name another one with scalekd.inner")
    return seen.transpose(1, 2).unflatten(2, (side, side))
