"""A teacher that answered earlier: its labels on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from understudy.data.samples import Batch, View
from understudy.errors import UserError
from understudy.labels import LabelStore, Tail, Values
from understudy.teachers.base import Signals, Teacher, Words

_SIGNALS = {
    "hard": ("labels", "confidence", "probabilities"),
    "soft": ("probabilities",),
    "topk": ("probabilities",),
    "packed": ("probabilities",),
    "features": ("pooled",),
    "token-topk": ("words",),
    "token-draws": ("words",),
}


class Stored(Teacher):
    """Answers from a label store, about exactly the views that were labelled.

    ``replay`` gives those views, options and all. A view's key says which of the labelled views it is; any other view is refused.
    """

    def __init__(
        self, store: LabelStore | str | Path, *, classes: Sequence[str] = (), teacher: str | None = None, data: str | None = None, tail: Tail = "uniform"
    ):
        """``teacher`` and ``data`` are the fingerprints the labels must have. Raises UserError where they, or the classes, are others."""
        super().__init__()
        self.store = store if isinstance(store, LabelStore) else LabelStore.open(store)
        self.store.require(teacher, data)
        self.tail: Tail = tail
        self.classes = self.store.manifest.classes
        if classes and self.classes and tuple(classes) != self.classes:
            raise UserError(f"the labels at {self.store.folder} are of the classes {', '.join(self.classes)}, and the data have {', '.join(classes)}.")

    @property
    def fingerprint(self) -> str:
        """Of the teacher that answered."""
        return self.store.manifest.teacher

    @property
    def offers(self) -> frozenset[str]:
        return frozenset(_SIGNALS[self.store.codec.name])

    def replay(self, batch: Batch, number: int | Tensor) -> View:
        """The labelled view of this number (int or int64 ``[B]``)."""
        return self.store.replay(batch, number)

    def answer(self, batch: Batch, view: View) -> Signals:
        """The stored labels of a replayed view. Raises UserError for another view and for samples that were not labelled."""
        of_tokens = self.store.codec.ragged
        try:
            values = self._at_tokens(batch, view) if of_tokens else self.store.read(batch.keys, self.store.numbers(view, batch.keys))
        except LookupError as error:
            raise UserError(f"{error}: finish labelling, or train on the labelled samples only.") from error
        if of_tokens:
            return Signals(words=Words(values["indices"], values["probabilities"], "zero" if self.store.codec.name == "token-draws" else self.tail))
        if self.store.codec.name == "features":
            return Signals(pooled=values["pooled"])
        probabilities = self.store.decode(values, self.tail)
        temperature = self.store.manifest.temperature
        return Signals(probabilities=probabilities, labels=values.get("label"), confidence=values.get("confidence"), temperature=temperature)

    def _at_tokens(self, batch: Batch, view: View) -> Values:
        """The labels of all tokens of the answers. Raises UserError for tokens of another tokenizer and for other views."""
        self.store.require(tokenizer=str(batch.samples.modality.signature().get("tokenizer")))
        if view.name != "plain":
            raise UserError(f"the labels at {self.store.folder} are of the answers that were given, and this view '{view.name}' is none of them.")
        sample, place = view.inputs["answer"].nonzero(as_tuple=True)
        return self.store.read(batch.keys[sample], place)
