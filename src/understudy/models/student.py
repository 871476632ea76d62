"""The model that learns: a backbone, sometimes a neck, a head for the classes, sometimes early exits, and what is needed to build it again."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from understudy import keyed, maths
from understudy.data.samples import Batch, Inputs, Modality, View
from understudy.models.architecture import backbone_of
from understudy.models.backbone import Backbone, Features, seeded
from understudy.models.exits import Exits
from understudy.models.heads import Neck


class Student(nn.Module):
    """A backbone and, where there are classes, a linear head on its pooled features.

    Where the specification says ``neck`` (widths, the backbone's first), these layers stand between the two; ``features`` does not pass them.
    Where it says ``exits`` (places, as ``models.exits.Exits`` has them), a student with classes has early exits, which ``forward`` does not use: ``models.exits.early`` does.
    """

    def __init__(self, backbone: Backbone, modality: Modality, classes: Sequence[str], spec: dict[str, Any], key: int):
        super().__init__()
        self.backbone = backbone
        self.modality = modality
        self.classes = tuple(classes)
        self.spec = spec
        self.neck = Neck(spec["neck"], int(keyed.fold(key, "neck"))) if "neck" in spec else None
        self.head: nn.Linear | None = None
        if self.classes:
            with seeded(int(keyed.fold(key, "head"))):
                self.head = nn.Linear(spec["neck"][-1] if "neck" in spec else backbone.width, len(self.classes))
                nn.init.normal_(self.head.weight, std=0.01)
                nn.init.zeros_(self.head.bias)
        self.exits = Exits(backbone, len(self.classes), spec["exits"], key) if "exits" in spec and self.classes else None

    def features(self, inputs: Inputs) -> Features:
        """Features of a view's inputs, everything visible."""
        return self.backbone(inputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits ``[B, C]``. Raises LookupError without classes."""
        return self.logits(self.features(inputs))

    def logits(self, features: Features) -> Tensor:
        """Logits ``[B, C]`` of what ``features`` gave. Raises LookupError without classes."""
        if self.head is None:
            raise LookupError("this student has no classes; give it a head with with_head(classes, key)")
        return self.head(features.pooled if self.neck is None else self.neck(features.pooled))

    def losses(self, batch: Batch, view: View, smoothing: float = 0.0) -> Tensor:
        """How far the answers to a view are from the labels of the batch, ``[B]``: cross-entropy, a share ``smoothing`` of the target spread over all classes."""
        return maths.soft_cross_entropy(self(view.inputs), maths.smooth(batch.soft_labels(), smoothing))

    def clone(self) -> Student:
        """An independent copy, without gradients. The modality is shared."""
        twin = copy.deepcopy(self, {id(self.modality): self.modality})
        twin.zero_grad(set_to_none=True)
        return twin

    def with_head(self, classes: Sequence[str], key: int) -> Student:
        """A copy with a fresh head, and fresh exits if it has any, for ``classes``; without any, no head."""
        twin = self.clone()
        other = type(self)(twin.backbone, self.modality, classes, self.spec, key)
        other.neck = twin.neck
        return other.to(self._device).train(self.training)

    def with_neck(self, widths: Sequence[int], layers: nn.Sequential) -> Student:
        """A copy without a head whose neck is a copy of ``layers``, the first ones of an ``MLP`` over ``widths``."""
        other = Student(self.clone().backbone, self.modality, (), {**self.spec, "neck": list(widths)}, key=0)
        assert other.neck is not None, "the specification names it"
        other.neck.load_state_dict(layers.state_dict())
        return other.to(self._device).train(self.training)

    def with_exits(self, places: Sequence[dict[str, Any]], key: int) -> Student:
        """A copy with fresh early exits at ``places``, which ``models.exits.Exits`` explains; without any, none."""
        twin = self.clone()
        spec = {name: value for name, value in self.spec.items() if name != "exits"} | ({"exits": list(places)} if places else {})
        other = Student(twin.backbone, self.modality, self.classes, spec, key)
        other.neck, other.head = twin.neck, twin.head
        return other.to(self._device).train(self.training)

    def with_registers(self, count: int, key: int) -> Student:
        """A copy without a head whose backbone, a built-in transformer, has ``count`` registers: its own, if it has as many, or fresh ones."""
        spec = {**self.spec, "options": {**self.spec["options"], "registers": count}}
        other = Student(backbone_of(spec, key), self.modality, (), spec, key)
        fresh = other.backbone.state_dict()
        kept = {name: weight for name, weight in self.backbone.state_dict().items() if name in fresh and weight.shape == fresh[name].shape}
        other.backbone.load_state_dict({**fresh, **kept})
        return other.to(self._device).train(self.training)

    def reinitialised(self, key: int) -> Student:
        """The same architecture as if nothing had been learned: fresh weights, or the published ones of a timm or transformers model, and a fresh head."""
        return type(self)(backbone_of(self.spec, key), self.modality, self.classes, self.spec, key).to(self._device).train(self.training)

    @property
    def _device(self) -> Any:
        return next(self.parameters()).device


class Drawing(Student):
    """A student whose answers are drawn on the sample, as its labels are: they move with the view."""
