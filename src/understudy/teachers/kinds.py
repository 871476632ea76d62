"""Teachers that are modules in this process: frozen, moving average, past checkpoint, several at once, the student's own exit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from understudy import maths, models
from understudy.data.samples import Batch, Inputs, Modality, View
from understudy.errors import UserError
from understudy.models.policy import Policy
from understudy.models.student import Drawing, Student
from understudy.models.taps import Taps
from understudy.teachers.base import Signals, Teacher, columns, digest, weights


class Frozen(Teacher):
    """A module that will not move: in eval mode, without gradients, its weights and buffers as they were.

    The module is taken over: ``requires_grad`` goes off in place, so give a copy of whatever is still to be trained. It stays out of the module tree: no
    optimiser, no ``train()``, no checkpoint of whoever owns this teacher reaches it; ``to()`` does.

    A ``Student`` reads a view with its own normalisation. If it encodes text or tables in another way than the data at hand (another tokenizer), it reads each
    sample's original anew, unaltered, and then says nothing about tokens and layers, which would not line up. Another module is called with the view's
    only tensor, or with all of them by name, and must return logits ``[B, C]``.
    """

    def __init__(self, model: nn.Module, *, classes: Sequence[str] = (), layers: Sequence[str] = ()):
        """``classes``: the columns wanted, picked and ordered by name where the model knows its own; ``layers``: dotted paths to report."""
        super().__init__()
        self._held = (model.eval().requires_grad_(False),)
        self._layers = tuple(layers)
        own = model.classes if isinstance(model, Student) else ()
        self._columns = columns(own, classes, "the teacher")
        self.classes = tuple(classes) or own
        self._weights = weights(model)
        self._fingerprint = digest(_spec(model), self._weights, self._columns)
        self._compared: Modality | None = None
        self._reads_alike = True

    @property
    def model(self) -> nn.Module:
        """The module itself."""
        return self._held[0]

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def offers(self) -> frozenset[str]:
        return _offers(self.model, self._layers)

    def answer(self, batch: Batch, view: View) -> Signals:
        self.model.eval()
        if not self._alike(batch.samples.modality):
            signals = _ask(self.model, self._original_inputs(batch, view), ())
            return Signals(logits=self._ordered(signals.logits), pooled=signals.pooled)
        signals = _ask(self.model, view.inputs, self._layers)
        return Signals(logits=self._ordered(signals.logits), pooled=signals.pooled, tokens=signals.tokens, layers=signals.layers)

    def states(self, batch: Batch, view: View) -> tuple[Tensor, nn.Linear] | None:
        """Of a language model whose logits are a linear map of its states: these ``[B, L, D]`` and that map, so that nobody has to hold logits. None of any other."""
        backbone = self.model.backbone if isinstance(self.model, Policy) else None
        if backbone is None or backbone.head is None or not self._alike(batch.samples.modality):
            return None
        self.model.eval()
        with torch.no_grad():
            return backbone.states(view.inputs), backbone.head

    def assert_unmoved(self) -> None:
        """Raise UserError naming the weights and buffers that differ from those of the start."""
        now = weights(self.model)
        moved = [name for name in self._weights if now.get(name) != self._weights[name]]
        if moved or self.model.training or any(p.requires_grad for p in self.model.parameters()):
            what = ", ".join(moved[:3]) or "its mode or requires_grad"
            raise UserError(f"the frozen teacher was moved by somebody else ({what}): give it a copy of its own.")

    def _ordered(self, logits: Tensor | None) -> Tensor | None:
        return logits if logits is None or self._columns is None else logits[:, self._columns]

    def _alike(self, theirs: Modality) -> bool:
        if not isinstance(self.model, Student):
            return True
        if self._compared is not theirs:
            ours = self.model.modality
            if ours.name != theirs.name:
                raise UserError(f"the teacher reads {ours.name} and the data are {theirs.name}: choose a teacher for {theirs.name}.")
            self._compared, self._reads_alike = theirs, ours.name == "image" or ours.signature() == theirs.signature()
        return self._reads_alike

    def _original_inputs(self, batch: Batch, view: View) -> Inputs:
        assert isinstance(self.model, Student)
        modality = self.model.modality
        raw = modality.collate([modality.encode(original) for original in batch.originals()])
        return modality.view({name: tensor.to(batch.device) for name, tensor in raw.items()}, "plain", view.keys).inputs

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Frozen:
        self.model._apply(fn)
        return super()._apply(fn, recurse)


class PastCheckpoint(Frozen):
    """A model that was saved: by another run, or by this one some time ago."""

    def __init__(self, folder: str | Path, *, classes: Sequence[str] = (), layers: Sequence[str] = ()):
        """``folder`` holds a saved model or a run that has one. Raises UserError where it does not."""
        super().__init__(models.load(Path(folder)), classes=classes, layers=layers)


class EMA(Teacher):
    """The moving average of a student, or of any module (Tarvainen and Valpola, arXiv 1703.01780).

    Call ``update`` once after each optimiser step. Parameters follow by teacher <- momentum teacher + (1 - momentum) student; buffers (BatchNorm's running
    statistics, counters) are copied. It is a child of whoever owns it, and so checkpointed with it. It answers in eval mode; with ``noisy`` it follows the
    owner's mode, as in the mean teacher of that paper, which has dropout and BatchNorm's batch statistics on; what BatchNorm then keeps of the teacher's
    batches is overwritten by the student's at the next update.
    """

    def __init__(self, student: nn.Module, *, noisy: bool = False, layers: Sequence[str] = ()):
        super().__init__()
        self.student: Any = student.clone() if isinstance(student, Student) else copy.deepcopy(student)
        self.student.requires_grad_(False)
        self.noisy = noisy
        self._layers = tuple(layers)
        self.classes = student.classes if isinstance(student, Student) else ()
        self.train(self.training)

    @property
    def fingerprint(self) -> str:
        """Of the average as it is now."""
        return digest(_spec(self.student), weights(self.student))

    @property
    def offers(self) -> frozenset[str]:
        return _offers(self.student, self._layers)

    def train(self, mode: bool = True) -> EMA:
        super().train(mode)
        self.student.train(mode and self.noisy)
        return self

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move towards ``student``; momentum 1 stands still, 0 copies."""
        maths.ema_update(self.student.parameters(), student.parameters(), momentum)
        for own, theirs in zip(self.student.buffers(), student.buffers(), strict=True):
            own.copy_(theirs)

    def answer(self, batch: Batch, view: View) -> Signals:
        return _ask(self.student, view.inputs, self._layers)


class Ensemble(Teacher):
    """Several teachers at once.

    ``mean`` averages their probabilities (arithmetic mean; Hinton et al., arXiv 1503.02531, section 1), ``vote`` counts their first choices: probabilities are
    shares of the vote, ties go to the larger mean probability, and confidence is the winner's share. ``weights`` count some teachers more than others.
    Who abstains does not count.
    """

    def __init__(self, teachers: Sequence[Teacher], mode: Literal["mean", "vote"] = "mean", weights: Sequence[float] | None = None):
        super().__init__()
        weights = [1.0] * len(teachers) if weights is None else [float(weight) for weight in weights]
        if not teachers or len(weights) != len(teachers) or min(weights) < 0 or sum(weights) <= 0:
            raise UserError(f"an ensemble of {len(teachers)} teachers needs one weight for each, none negative and not all zero, got {weights}.")
        known = {teacher.classes for teacher in teachers if teacher.classes}
        if len(known) > 1:
            one, other = sorted(known)[:2]
            raise UserError(f"teachers of one ensemble must have the same classes in the same order, and these have {', '.join(one)} and {', '.join(other)}.")
        if mode not in ("mean", "vote"):
            raise UserError(f"an ensemble can take the 'mean' or the 'vote' of its teachers, not '{mode}'.")
        self.teachers = nn.ModuleList(teachers)
        self.mode = mode
        self.weights = weights
        self.classes = known.pop() if known else ()

    @property
    def fingerprint(self) -> str:
        return digest(self.mode, self.weights, [teacher.fingerprint for teacher in self.teachers])

    @property
    def offers(self) -> frozenset[str]:
        return frozenset({"probabilities"} if self.mode == "mean" else {"probabilities", "labels", "confidence"})

    def answer(self, batch: Batch, view: View) -> Signals:
        said = torch.stack([teacher(batch, view).soft() for teacher in self.teachers])
        mean = _normalised(self._weighted(said))
        if self.mode == "mean":
            return Signals(probabilities=mean)
        choice = nn.functional.one_hot(said.argmax(-1), said.shape[-1]) * (said.sum(-1, keepdim=True) > 0)
        votes = _normalised(self._weighted(choice))
        best = votes.amax(1, keepdim=True)
        winner = torch.where(votes >= best - 1e-6, mean, -1.0).argmax(1)
        return Signals(probabilities=votes, labels=torch.where(best.squeeze(1) > 0, winner, -1), confidence=best.squeeze(1))

    def _weighted(self, said: Tensor) -> Tensor:
        """The weighted sum over teachers; weights stay numbers, since a tensor made of them would have to be copied to the device, and waited for."""
        return torch.stack([weight * one for weight, one in zip(self.weights, said, strict=True)]).sum(0)


class OwnExit(Teacher):
    """The student itself, as it is now: its own output, or one of its layers through ``head``.

    It looks in eval mode, so that the student's BatchNorm and dropout notice nothing, and leaves every module in the mode it was in. Where the student's own
    training pass will do, tap that (``models.Taps``) and detach: that costs no second pass.
    """

    def __init__(self, student: Student, path: str | None = None, head: Callable[[Tensor], Tensor] | None = None):
        """``head`` maps the output of the layer at ``path`` to logits ``[B, C]``; without it the student's own head answers and the layer is reported."""
        super().__init__()
        if head is not None and path is None:
            raise UserError("an exit of the student's own needs the path of the layer that its head reads.")
        self._held = (student, head)
        self._path = path
        self.classes = student.classes

    @property
    def fingerprint(self) -> str:
        """Of the student as it is now."""
        student, head = self._held
        return digest(_spec(student), weights(student), self._path, weights(head) if isinstance(head, nn.Module) else head is not None)

    @property
    def offers(self) -> frozenset[str]:
        student, head = self._held
        return _offers(student, (self._path,) if self._path else ()) | ({"logits"} if head else set())

    def answer(self, batch: Batch, view: View) -> Signals:
        student, head = self._held
        with _evaluating(student), _evaluating(head):
            signals = _ask(student, view.inputs, (self._path,) if self._path else ())
            logits = signals.logits if head is None or self._path is None else head(signals.layers[self._path])
        return Signals(logits=logits, pooled=signals.pooled, tokens=signals.tokens, layers=signals.layers)


def _ask(model: nn.Module, inputs: Inputs, layers: Sequence[str]) -> Signals:
    with Taps(model, layers) as taps:
        if isinstance(model, Policy):
            return Signals(logits=model(inputs), layers=taps.outputs)
        if isinstance(model, Student):
            features = model.features(inputs)
            logits = None if model.head is None else model.logits(features)
            return Signals(logits=logits, pooled=features.pooled, tokens=features.tokens, layers=taps.outputs)
        logits = model(*inputs.values()) if len(inputs) == 1 else model(**inputs)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UserError(f"a module that teaches must return logits [samples, classes], and {type(model).__name__} does not: wrap it in one that does.")
    return Signals(logits=logits, layers=taps.outputs)


def _offers(model: nn.Module, layers: Sequence[str]) -> frozenset[str]:
    offers = {"layers"} if layers else set()
    if isinstance(model, Student) and not isinstance(model, Policy):
        offers |= {"pooled", "tokens"}
    # Answers drawn on the sample are none for the sample.
    if not isinstance(model, Drawing) and (not isinstance(model, Student) or isinstance(model, Policy) or model.head is not None):
        offers.add("logits")
    return frozenset(offers)


def _spec(model: nn.Module) -> list[Any]:
    if isinstance(model, Student):
        return [model.spec, model.classes, model.modality.signature()]
    return [f"{type(model).__module__}.{type(model).__qualname__}"]


def _normalised(mass: Tensor) -> Tensor:
    return mass / mass.sum(1, keepdim=True).clamp_min(torch.finfo(mass.dtype).tiny)


@contextmanager
def _evaluating(module: object) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()] if isinstance(module, nn.Module) else []
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode
