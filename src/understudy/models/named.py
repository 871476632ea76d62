"""Models of other libraries by name: where their files are, how they are described, built and written back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from understudy import nearest
from understudy.data.samples import Modality
from understudy.errors import MissingExtra, UserError
from understudy.models.backbone import Backbone
from understudy.models.weights import refuse_pickles

if TYPE_CHECKING:
    from understudy.models.student import Student

_WANTED = ["config.json", "preprocessor_config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "*.model", "model*.safetensors*"]


class Classifier(NamedTuple):
    """The linear classifier that a model was published with."""

    weight: Tensor
    """``[C, D]``, over pooled features."""
    bias: Tensor
    classes: tuple[str, ...]


def check_options(name: str, options: dict[str, Any], known: Iterable[str]) -> None:
    """Raises UserError for an option that the model does not have."""
    known = list(known)
    for option in options:
        if option not in known:
            hint = nearest.hint(option, known, f"it has {', '.join(known) or 'none'}")
            raise UserError(f"the model {name} has no option '{option}'; {hint}")


def local(name: str) -> Path | None:
    """The folder with local copies of this model: in the folder that UNDERSTUDY_MODELS names, or ``name`` itself."""
    shelf = os.environ.get("UNDERSTUDY_MODELS")
    for folder in ([Path(shelf) / name] if shelf else []) + [Path(name)]:
        if folder.is_dir():
            return folder
    return None


def folder_of(name: str, repository: str) -> Path:
    """A folder with the model's files: a local copy, or a download of ``repository`` from the Hugging Face hub.

    Pickled weights are refused, and not even fetched.
    """
    folder = local(name)
    if folder is None:
        try:
            from huggingface_hub import snapshot_download
            from huggingface_hub.errors import HfHubHTTPError
        except ImportError:
            raise MissingExtra("text", f"fetching {repository}") from None
        try:
            folder = Path(snapshot_download(repository, allow_patterns=_WANTED))
        except (OSError, ValueError, HfHubHTTPError) as error:
            reason = str(error).splitlines()[0]
            advice = "give a local folder, or name the folder of your copies in UNDERSTUDY_MODELS"
            raise UserError(f"can not get {repository} from the hub ({reason}); {advice}") from None
    if not list(folder.glob("model*.safetensors")):
        refuse_pickles(folder, "model.safetensors")
        raise UserError(f"{folder} has no model.safetensors to load {name} from")
    return folder


def describe(name: str, modality: Modality, options: dict[str, Any]) -> dict[str, Any]:
    """The specification of a timm or transformers model for this data. Raises UserError for unknown names, MissingExtra without the library."""
    writes = modality.name == "generation"
    check_options(name, options, ("pretrained", "lora") if writes else ("pretrained",))
    library, rest = name.split(":", 1)
    if library == "timm":
        from understudy.models import from_timm

        return from_timm.describe(rest, modality, **options)
    if writes:
        from understudy.models import causal_from_hf

        return causal_from_hf.describe(rest, modality, **options)
    from understudy.models import from_hf

    return from_hf.describe(rest, modality, **options)


def build(spec: dict[str, Any], published: bool) -> Backbone:
    """The backbone of a specification, with the weights it was published with where ``published`` and the specification say so."""
    library, rest = spec["name"].split(":", 1)
    pretrained = spec["options"]["pretrained"]
    build = _builder(library, "lora" in spec["options"])
    backbone = build(rest, spec, published and pretrained)
    backbone.published, backbone.rate = pretrained, 1e-4 if pretrained else Backbone.rate
    return backbone


def _builder(library: str, writes: bool) -> Callable[[str, dict[str, Any], bool], Backbone]:
    if library == "timm":
        from understudy.models import from_timm

        return from_timm.build
    if writes:
        from understudy.models import causal_from_hf

        return causal_from_hf.build
    from understudy.models import from_hf

    return from_hf.build


def with_classifier(spec: dict[str, Any]) -> tuple[Backbone, Classifier] | None:
    """The published backbone of a specification, pooled as its own classifier takes it, and that classifier; None where it was published without."""
    library, rest = spec["name"].split(":", 1)
    if library == "timm":
        from understudy.models import from_timm

        backbone = from_timm.build(rest, spec, published=True)
        found = from_timm.classifier(rest, backbone.width)
        return None if found is None else (backbone, found)
    from understudy.models import from_hf

    return from_hf.with_classifier(rest, spec)


def own_modality(spec: dict[str, Any], modality: Modality) -> Modality:
    """The modality that the model needs: ``modality`` itself, unless it is text or prompts for a model with its own tokenizer."""
    if spec["name"].startswith("hf:") and modality.name == "generation":
        from understudy.models import causal_from_hf

        return causal_from_hf.modality(spec["name"].removeprefix("hf:"), spec["shape"]["length"])
    if spec["name"].startswith("hf:") and modality.name == "text":
        from understudy.models import from_hf

        return modality.with_tokens_of(from_hf.text_modality(spec["name"].removeprefix("hf:"), spec["shape"]["length"]))  # type: ignore[attr-defined, no-any-return]
    return modality


def export(student: Student, folder: Path) -> None:
    """Write what the model's own library loads, into ``folder``/timm or ``folder``/hf; nothing for built-in models."""
    if student.spec["name"].startswith("timm:"):
        from understudy.models import from_timm

        from_timm.export(student, folder / "timm")
    elif student.spec["name"].startswith("hf:") and "lora" in student.spec["options"]:
        from understudy.models import causal_from_hf

        causal_from_hf.export(student, folder / "hf")
    elif student.spec["name"].startswith("hf:"):
        from understudy.models import from_hf

        from_hf.export(student, folder / "hf")
