"""A teacher is anything that answers: a batch and a view of it go in, signals come out, and never a gradient."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from understudy import maths
from understudy.data.samples import Batch, Modality, View
from understudy.errors import UserError
from understudy.maths.divergences import Tail


class Words(NamedTuple):
    """Of each token of the answers in a view, one sample after another, the words that are known of a distribution over the vocabulary."""

    indices: Tensor
    """int64 ``[N, k]``."""
    probabilities: Tensor
    """float32 ``[N, k]``; 0 where there are fewer."""
    tail: Tail
    """What is known of the others (``maths.topk_kl``)."""


@dataclass(frozen=True)
class Signals:
    """What a teacher says about a batch. Everything it does not say is None or empty."""

    logits: Tensor | None = None
    """``[B, C]``; of a language model ``[B, L, V]``, what could follow each position."""
    probabilities: Tensor | None = None
    """``[B, C]``; a row of zeros where the teacher abstained."""
    labels: Tensor | None = None
    """int64 ``[B]``: classes said outright; -1 where the teacher abstained."""
    confidence: Tensor | None = None
    """float32 ``[B]`` for ``labels``; NaN where the teacher did not say."""
    pooled: Tensor | None = None
    """``[B, D]``."""
    tokens: Tensor | None = None
    """``[B, T, D]``."""
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    """Outputs of the layers asked for, by dotted path."""
    text: Sequence[str] = ()
    """What a language model wrote, one per sample."""
    words: Words | None = None
    """What a stored language model would have said at each token of an answer."""
    temperature: float = 1.0
    """At which ``probabilities`` were computed."""

    def soft(self, temperature: float = 1.0) -> Tensor:
        """Probabilities softmax(z / temperature) float32 ``[B, C]``; without logits z, the equal p^(own temperature / temperature), normalised.

        Raises UserError where there are neither.
        """
        if self.logits is not None:
            return maths.softened(self.logits, temperature)
        if self.probabilities is None:
            raise UserError("class probabilities were asked of a teacher that gives none: use a teacher with a head for the classes.")
        if temperature == self.temperature:
            return self.probabilities.float()
        answered = self.probabilities.sum(1, keepdim=True) > 0
        return torch.where(answered, maths.softened(self.probabilities.float().log(), temperature / self.temperature), 0.0)

    def hard(self) -> tuple[Tensor, Tensor]:
        """The class int64 ``[B]`` (-1 = abstained) and the confidence in it float32 ``[B]`` (NaN = unknown): as said, or the largest probability."""
        if self.labels is not None:
            unknown = torch.full(self.labels.shape, float("nan"), device=self.labels.device)
            return self.labels, unknown if self.confidence is None else self.confidence
        confidence, labels = self.soft().max(1)
        return torch.where(confidence > 0, labels, -1), confidence


class Teacher(nn.Module, ABC):
    """Somebody who answers. The student's code cannot tell which kind."""

    classes: tuple[str, ...] = ()
    """What the columns of logits and probabilities mean, where that is known."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Who this is: the same for two teachers that give the same answers by construction, another one after any change of weights or wording."""

    @property
    @abstractmethod
    def offers(self) -> frozenset[str]:
        """Names of the signals that every answer has."""

    @abstractmethod
    def answer(self, batch: Batch, view: View) -> Signals:
        """The signals of a view of the batch; called without gradients."""

    def __call__(self, batch: Batch, view: View) -> Signals:
        """The signals of a view of the batch. They never carry a gradient."""
        with torch.no_grad():
            return self.answer(batch, view)

    @staticmethod
    def of(spec: Any, *, modality: Modality | None = None, classes: Sequence[str] = (), key: int = 0, **options: Any) -> Teacher:
        """The teacher that ``spec`` means.

        A teacher itself; ``timm:NAME`` or ``hf:NAME_OR_FOLDER`` (a published model, with its own classifier if that has the ``classes``); ``run:FOLDER`` (a saved model);
        ``labels:FOLDER`` (a label store); ``annotations:FILE`` (people: a CSV file with the columns id, annotator and label); ``http://…#MODEL`` or
        ``https://…#MODEL`` (an OpenAI-compatible server); a module, which is frozen in place; a function of the originals; or a list of these, whose
        probabilities are averaged. ``classes`` are the data's: a teacher that lacks one of them is refused, a model that has them in another order is put in
        order. ``options`` go to the kind. Raises UserError for anything else.
        """
        from understudy import models
        from understudy.teachers import annotators, kinds, server, spoken, stored

        if isinstance(spec, Teacher):
            return spec
        if isinstance(spec, list | tuple):
            return kinds.Ensemble([Teacher.of(one, modality=modality, classes=classes, key=key) for one in spec], **options)
        if isinstance(spec, nn.Module):
            return kinds.Frozen(spec, classes=classes, **options)
        if isinstance(spec, Callable):  # type: ignore[arg-type]
            return spoken.Call(spec, classes=classes, **options)
        scheme, _, rest = str(spec).partition(":")
        if scheme in ("timm", "hf"):
            if modality is None:
                raise UserError(f"the teacher '{spec}' needs to know what data it will see: give its modality.")
            model = models.build(str(spec), modality, (), key, **options) if options else models.published(str(spec), modality, classes, key)
            return kinds.Frozen(model, classes=classes if model.classes else ())
        if scheme == "run":
            return kinds.PastCheckpoint(rest, classes=classes, **options)
        if scheme == "labels":
            return stored.Stored(rest, classes=classes, **options)
        if scheme == "annotations":
            return annotators.read(rest, classes)
        if scheme in ("http", "https"):
            return server.Server(str(spec), classes=classes, **options)
        meant = f"; did you mean run:{spec}?" if Path(str(spec)).exists() else "."
        raise UserError(f"'{spec}' is no teacher: give timm:NAME, hf:NAME, run:FOLDER, labels:FOLDER, annotations:FILE or the address of a server{meant}")


def digest(*parts: Any) -> str:
    """A short name of JSON values."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()


def weights(module: nn.Module) -> dict[str, str]:
    """A digest of every parameter and buffer by name, those that are not saved included."""
    digests = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
        head = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
        digests[name] = hashlib.blake2b(head + flat.view(torch.uint8).numpy().tobytes(), digest_size=12).hexdigest()
    return digests


def columns(have: Sequence[str], want: Sequence[str], who: str) -> list[int] | None:
    """Where the classes ``want`` are among the teacher's ``have``; None where nothing needs to move. Raises UserError where one is missing."""
    missing = [name for name in want if name not in have]
    if have and missing:
        raise UserError(f"{who} knows the classes {', '.join(have[:5])} …, and the data have '{missing[0]}', which is not among them.")
    return None if not have or not want or tuple(have) == tuple(want) else [list(have).index(name) for name in want]
