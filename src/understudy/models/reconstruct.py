"""Decoders that predict what a masked view hides, and score themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from understudy.data.samples import Inputs, View
from understudy.errors import UserError
from understudy.maths import reconstruction
from understudy.models.audio import hidden_frames
from understudy.models.backbone import Backbone, Features, check_mask, seeded
from understudy.models.image import whole_patches
from understudy.models.series import hidden_patches
from understudy.models.transformer import Block, attended, initialise, sinusoid, sinusoid_grid


class Decoder(nn.Module):
    """``decoder(features, view)``: the loss ``[B]`` of every sample of a masked view, its mean over what is hidden in that sample."""

    def __init__(self, refill: Refill | None, head: nn.Module):
        super().__init__()
        self.refill = refill
        self.head = head

    def forward(self, features: Features, view: View) -> Tensor:
        if view.masked is None:
            raise ValueError(f"the view '{view.name}' hides nothing: a decoder needs a masked view")
        tokens = features.tokens if self.refill is None else self.refill(features.tokens, view)
        check_mask(view.masked, tokens.shape[1])
        return self.head(tokens, view)


class Refill(nn.Module):
    """MAE's decoder (arXiv 2111.06377, section 3).

    Visible tokens go back to their places, a learned token stands for each dropped one, then a few narrow blocks.
    """

    def __init__(self, entering: int, width: int, depth: int, heads: int):
        super().__init__()
        self.narrow = nn.Linear(entering, width)
        self.mask = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)
        nn.init.trunc_normal_(self.mask, std=0.02)

    def forward(self, tokens: Tensor, view: View) -> Tensor:
        assert view.masked is not None
        padding = view.inputs.get("padding")
        hidden = view.masked if padding is None else view.masked | padding
        index = torch.argsort(hidden.to(torch.int8), dim=1, stable=True)[:, : tokens.shape[1]]  # the order in which the backbone left them
        seen = self.narrow(tokens)
        x = self.mask.to(seen.dtype).expand(*view.masked.shape, -1).clone()
        x = x.scatter(1, index.unsqueeze(-1).expand_as(seen), seen)
        x = torch.where(hidden.unsqueeze(-1), self.mask.to(x.dtype), x)  # where samples keep different numbers, the shorter ones were filled up
        x = x + self.places(view, x).to(x.dtype)
        for block in self.blocks:
            x = block(x, attended(padding))
        return self.norm(x)

    def places(self, view: View, x: Tensor) -> Tensor:
        if "pixels" not in view.inputs:
            return sinusoid(torch.arange(x.shape[1], device=x.device), x.shape[2])
        height, width = view.inputs["pixels"].shape[2:]
        rows = round((x.shape[1] * height / width) ** 0.5)
        return sinusoid_grid(rows, x.shape[1] // rows, x.shape[2], x.device)


class PixelHead(nn.Linear):
    """Predicts the pixels of a patch from its token; the target of each patch is normalised by its own mean and deviation where ``normalised``."""

    def __init__(self, entering: int, patch: int, channels: int, normalised: bool):
        super().__init__(entering, patch * patch * channels)
        self.patch, self.normalised = patch, normalised

    def forward(self, tokens: Tensor, view: View) -> Tensor:  # type: ignore[override]
        pixels = whole_patches(view.inputs["pixels"], self.patch)
        target = reconstruction.norm_pixel_target(pixels, self.patch) if self.normalised else reconstruction.patchify(pixels, self.patch)
        assert view.masked is not None
        return reconstruction.masked_squared_error(super().forward(tokens), target, view.masked)


class TokenHead(nn.Module):
    """BERT's masked-token head (arXiv 1810.04805, section 3.1). Its output matrix starts as a copy of the backbone's embedding."""

    def __init__(self, entering: int, vocabulary: nn.Embedding):
        super().__init__()
        width = vocabulary.embedding_dim
        self.transform = nn.Sequential(nn.Linear(entering, width), nn.GELU(), nn.LayerNorm(width))
        self.words = nn.Linear(width, vocabulary.num_embeddings)
        self.apply(initialise)
        with torch.no_grad():
            self.words.weight.copy_(vocabulary.weight)

    def forward(self, tokens: Tensor, view: View) -> Tensor:
        """Only hidden positions meet the vocabulary: they are a small part, and the logits are the largest tensor of the model."""
        assert view.masked is not None
        most = int(view.masked.sum(1).max()) if view.most is None else view.most
        index = torch.argsort((~view.masked).to(torch.int8), dim=1, stable=True)[:, :most]
        chosen = tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        logits = self.words(self.transform(chosen))
        return reconstruction.masked_cross_entropy(logits, view.inputs["tokens"].gather(1, index), view.masked.gather(1, index))


class ValueHead(nn.Linear):
    """Predicts all values of a patch of ``patch`` steps from its token; the target is what ``cut(inputs, masked, patch)`` says, and the error a mean over the values
    that are there."""

    def __init__(self, entering: int, patch: int, cut: Callable[[Inputs, Tensor, int], tuple[Tensor, Tensor]], channels: int = 1):
        super().__init__(entering, patch * channels)
        self.patch, self.cut = patch, cut

    def forward(self, tokens: Tensor, view: View) -> Tensor:  # type: ignore[override]
        assert view.masked is not None
        target, there = self.cut(view.inputs, view.masked, self.patch)
        error = (super().forward(tokens) - target.detach()).square().masked_fill(~there, 0.0)
        return reconstruction.masked_mean(error.sum(-1) / there.sum(-1).clamp_min(1), view.masked)


class FeatureHead(nn.Linear):
    """Predicts the features of a node from its token."""

    def forward(self, tokens: Tensor, view: View) -> Tensor:  # type: ignore[override]
        assert view.masked is not None
        return reconstruction.masked_squared_error(super().forward(tokens), view.inputs["features"][:, : view.masked.shape[1]], view.masked)


class ColumnHead(nn.Module):
    """A linear map for each column: squared error for numbers that are present, cross-entropy for known categories, the mean over the hidden ones of a row."""

    def __init__(self, entering: int, numbers: int, categories: tuple[int, ...]):
        super().__init__()
        self.number_weight = nn.Parameter(torch.empty(numbers, entering))
        self.number_bias = nn.Parameter(torch.zeros(numbers))
        nn.init.trunc_normal_(self.number_weight, std=0.02)
        self.categories = nn.ModuleList(nn.Linear(entering, count) for count in categories)
        self.categories.apply(initialise)

    def forward(self, tokens: Tensor, view: View) -> Tensor:
        numbers, known = view.inputs["numbers"], [~view.inputs["absent"]]
        assert view.masked is not None
        guesses = (tokens[:, : numbers.shape[1]] * self.number_weight).sum(-1) + self.number_bias
        errors = [(guesses - numbers).square()]
        for column, head in enumerate(self.categories):
            values = view.inputs["categories"][:, column]
            errors.append(nn.functional.cross_entropy(head(tokens[:, numbers.shape[1] + column]).float(), values, reduction="none").unsqueeze(1))
            known.append((values != 0).unsqueeze(1))
        return reconstruction.masked_mean(torch.cat(errors, 1), view.masked & torch.cat(known, 1))


def decoder_for(
    backbone: Backbone, key: int, *, dropped: bool = False, width: int | None = None, depth: int = 2, heads: int = 4, normalised: bool = True
) -> Decoder:
    """What predicts the hidden part from this backbone's tokens; a pure function of ``key``.

    ``dropped``: the features come from ``backbone(inputs, masked, drop=True)``, and the decoder is MAE's small transformer of ``width`` (half of the
    backbone's, unless given), ``depth`` and ``heads``. Otherwise it is linear (SimMIM, arXiv 2111.09886). ``normalised``: each patch of the target
    pixels has mean 0 and deviation 1.

    Raises UserError for a backbone whose hidden positions can not be dropped, or not be told apart.
    """
    if dropped and not backbone.drops:
        raise UserError(f"{type(backbone).__name__} can not leave positions out as MAE does; use small-vit, or mask without dropping")
    if backbone.patch is None:
        raise UserError("this model resizes images so that its tokens cover no whole number of pixels, and nothing can be hidden; choose another image size")
    with seeded(key):
        entering = backbone.token_width
        refill = None
        if dropped:
            width = width or max(heads, backbone.token_width // 2 // heads * heads)
            refill, entering = Refill(entering, width, depth, heads), width
        return Decoder(refill, _head(backbone, entering, normalised))


def _head(backbone: Backbone, entering: int, normalised: bool) -> nn.Module:
    if backbone.modality == "image":
        return PixelHead(entering, backbone.patch, backbone.channels, normalised)  # type: ignore[arg-type]
    if backbone.modality in ("text", "molecule"):
        return TokenHead(entering, backbone.vocabulary)  # type: ignore[arg-type]
    if backbone.modality == "series":
        return ValueHead(entering, backbone.patch, hidden_patches)  # type: ignore[arg-type]
    if backbone.modality == "audio":
        return ValueHead(entering, backbone.patch, hidden_frames, backbone.mels)  # type: ignore[arg-type]
    if backbone.modality == "graph":
        return FeatureHead(entering, backbone.features)  # type: ignore[arg-type]
    return ColumnHead(entering, backbone.numbers, backbone.categories)  # type: ignore[arg-type]
