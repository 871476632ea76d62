"""T-JEPA: from some columns of a row, predict what a moving average of the network makes of others."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from understudy import keyed, maths
from understudy.data.samples import Batch
from understudy.errors import UserError
from understudy.models.backbone import seeded
from understudy.models.student import Student
from understudy.models.transformer import Block, Transformer, attended, sinusoid
from understudy.settings import Settings
from understudy.systems.base import Card, Objective, Task
from understudy.teachers.kinds import EMA

card = Card(
    slug="t-jepa",
    id="s263",
    title="T-JEPA: Augmentation-Free Self-Supervised Learning for Tabular Data",
    paper="2410.05016",
    year=2025,
    family="ssl-bootstrap",
    modalities=("table",),
    needs="nothing",
    idea="A row cannot be augmented without changing what it means, but it can be parted: the student sees a few columns, and a small predictor says, in the space of "
    "features, what a moving average of the student that sees the whole row has at other columns. Registers, learned tokens that are always seen and never "
    "predicted, keep the features from collapsing.",
    equations=(
        "C = a random share of the columns, T_1 ... T_k each a random share of the others",
        "t = teacher(x), s = student(x_C and the registers)",
        "loss = mean over i and the columns of T_i and features of (predictor(s, T_i) - t)^2",
        "teacher <- m teacher + (1 - m) student, after every step",
    ),
    unknown="Only the abstract and the released code could be read. There the numbers of columns are drawn for a batch, here for each row. Dropout is left out. The registers stay "
    "in the model that comes out, which they were learned with; its features do not contain them.",
)


class TJEPASettings(Settings):
    """Settings of ``t-jepa``."""

    context: tuple[float, float] = Field((0.2, 0.4), description="share of the columns that the student sees, drawn evenly between the two (released code)")
    target: tuple[float, float] = Field((0.2, 0.4), description="share of the columns that are predicted at a time, none of them seen (released code)")
    targets: int = Field(4, ge=1, description="k, sets of columns that are predicted (released code: 4)")
    registers: int = Field(1, ge=0, description="learned tokens besides the columns (released code: 1)")
    width: int | None = Field(None, ge=1, description="width of the predictor; null: the backbone's (released code: 64, as the encoder)")
    depth: int = Field(2, ge=1, description="blocks of the predictor (released code: 2)")
    momentum: tuple[float, float] = Field((0.996, 1.0), description="m at the first and at the last step, a line between (released code)")

    @model_validator(mode="after")
    def _fits(self) -> TJEPASettings:
        for low, high in (self.context, self.target):
            if not 0 < low <= high < 1:
                raise ValueError("context and target are shares of the columns, from the least to the most, above 0 and below 1")
        return self


class TJEPA(Objective):
    """Predicting columns in the space of features."""

    card = card
    Settings = TJEPASettings
    defaults = {"optim.lr": 1e-3, "optim.weight_decay": 1e-5, "optim.warmup": 0.05, "optim.clip": 1.0, "train.batch": 128}

    def check(self, task: Task) -> None:
        super().check(task)
        if not isinstance(task.student.backbone, Transformer):
            raise UserError("t-jepa gives its model registers, which this one cannot take; choose a built-in one, such as small-table")
        columns = len(task.train.modality.names)  # type: ignore[attr-defined]
        if columns < 2:
            raise UserError(f"t-jepa predicts columns from others, and the table has {columns}; give at least two")

    def build(self, task: Task) -> None:
        s = self.settings
        self.student = self.student.with_registers(s.registers, task.key("registers"))
        self.teacher = EMA(self.student)
        self.predictor = Predictor(self.student.backbone.width, s.width or self.student.backbone.width, s.depth, task.key("predictor"))

    def losses(self, everything: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        backbone, inputs = self.student.backbone, everything.view("plain").inputs
        seen, asked = self.parts(everything, backbone.positions(inputs))
        told = self.teacher.student.features(inputs).tokens
        content, places, _ = backbone.embed(inputs)  # type: ignore[operator]
        tokens = backbone.norm(backbone.through(content + places, ~seen, registers=True))  # type: ignore[operator]
        self.watched = {"features": told.mean(1)}
        answer = self.predictor(tokens, seen, asked)
        k = self.settings.targets
        return {"features": maths.masked_squared_error(answer, told.repeat(k, 1, 1), asked).view(k, -1).mean(0)}

    def parts(self, batch: Batch, columns: int) -> tuple[Tensor, Tensor]:
        """Which columns are seen, bool ``[B, T]``, and which are asked for, one set after another, bool ``[k B, T]``."""
        s, keys = self.settings, batch.random("columns")
        seen = drawn(keyed.fold(keys, "context"), torch.ones(len(batch), columns, dtype=torch.bool, device=batch.device), s.context)  # type: ignore[arg-type]
        return seen, torch.cat([drawn(keyed.fold(keys, "target", i), ~seen, s.target) for i in range(s.targets)])  # type: ignore[arg-type]

    def after_step(self) -> None:
        self.teacher.update(self.student, maths.schedules.linear(self.step, self.steps, *self.settings.momentum))

    def result(self) -> Student:
        """The teacher, as the released code evaluates it."""
        return self.teacher.student


def drawn(keys: Tensor, among: Tensor, share: tuple[float, float]) -> Tensor:
    """A share of all T columns, drawn evenly between the two, taken at random from those ``among`` (bool ``[B, T]``); at least one, never all."""
    columns = among.shape[1]
    count = torch.round(columns * keyed.uniform(keyed.fold(keys, "count"), (1,), *share)).clamp(1, columns - 1)
    order = keyed.uniform(keyed.fold(keys, "order"), (columns,)).masked_fill(~among, 2.0)
    return (order.argsort(1).argsort(1) < count) & among


class Predictor(nn.Module):
    """From registers and seen columns to those that are asked for."""

    def __init__(self, entering: int, width: int, depth: int, key: int):
        super().__init__()
        heads = next(h for h in range(max(1, width // 16), 0, -1) if width % h == 0)
        with seeded(key):
            self.enter = nn.Linear(entering, width)
            self.mask = nn.Parameter(torch.zeros(width))
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
            self.norm, self.leave = nn.LayerNorm(width), nn.Linear(width, entering)

    def forward(self, tokens: Tensor, seen: Tensor, asked: Tensor) -> Tensor:
        """``tokens`` ``[B, R + T, D]``, registers first, of which the columns ``seen`` (bool ``[B, T]``) count, in k questions ``asked`` (bool ``[k B, T]``).

        Returns ``[k B, T, D]``, which means something where a column is asked for.
        """
        columns = seen.shape[1]
        registers, x = self.enter(tokens).tensor_split([tokens.shape[1] - columns], 1)
        x = torch.where(seen.unsqueeze(-1), x, self.mask.to(x.dtype)) + sinusoid(torch.arange(columns, device=x.device), x.shape[-1]).to(x.dtype)
        questions = len(asked) // len(x)
        hidden = torch.nn.functional.pad(~seen.repeat(questions, 1) & ~asked, (registers.shape[1], 0))
        x, attend = torch.cat([registers, x], 1).repeat(questions, 1, 1), attended(hidden)
        for layer in self.blocks:
            x = layer(x, attend)
        return self.leave(self.norm(x[:, -columns:]))  # type: ignore[no-any-return]
