"""timm models as backbones (extra ``vision``)."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from understudy import nearest
from understudy.data.samples import Inputs
from understudy.errors import MissingExtra, UserError
from understudy.models.backbone import Backbone, Features, check_mask, take, visible
from understudy.models.image import PixelInput
from understudy.models.named import Classifier, folder_of, local
from understudy.models.norm import batch_norm, globalise
from understudy.models.weights import plain_weights, read_weights

if TYPE_CHECKING:
    from understudy.models.student import Student

SMALLEST = 128
"""Pixels below which a model of free input size gets its images enlarged: its last map would have too few places."""


def library() -> Any:
    """timm. Raises MissingExtra where it can not be imported (RuntimeError: a torchvision made for another torch)."""
    try:
        import timm
    except (ImportError, RuntimeError):
        raise MissingExtra("vision", "a timm model") from None
    return timm


def describe(name: str, modality: Any, pretrained: bool = True) -> dict[str, Any]:
    """See ``named.describe``. ``pretrained=False`` builds the architecture untrained, without any file."""
    timm = library()
    if modality.name != "image":
        raise UserError(f"timm:{name} reads image, and the data are {modality.name}")
    folder = local(name)
    published: dict[str, Any] = json.loads((folder / "config.json").read_text()) if folder and (folder / "config.json").exists() else {}
    architecture = published.get("architecture", name.split(".")[0])
    if not timm.is_model(architecture) or (not folder and not timm.list_models(name, pretrained="." in name)):
        matches = nearest.names(name.replace(".", "_"), timm.list_models()) or timm.list_models(f"*{name}*")[:3]
        raise UserError(f"timm has no model '{name}'; " + (f"did you mean {' or '.join(matches)}?" if matches else "timm.list_models() lists what it has"))
    own = published.get("pretrained_cfg") or timm.get_pretrained_cfg(name).to_dict()
    from timm.models.vision_transformer import VisionTransformer

    arguments = {k: v for k, v in published.get("model_args", {}).items() if k != "num_classes"}
    plain = type(timm.create_model(architecture, num_classes=0, **arguments)) is VisionTransformer
    if plain:
        arguments["dynamic_img_size"] = True
    size = own["input_size"][1] if own.get("fixed_input_size") and not plain else None
    config = {"architecture": architecture, "arguments": arguments, "mean": own["mean"], "std": own["std"], "size": size}
    shape = {"channels": modality.channels, "size": modality.size}
    return {"name": f"timm:{name}", "shape": shape, "options": {"pretrained": pretrained}, "config": config}


def build(name: str, spec: dict[str, Any], published: bool) -> TimmBackbone:
    """See ``named.build``."""
    model = library().create_model(spec["config"]["architecture"], num_classes=0, **spec["config"]["arguments"])
    if published:
        repository = library().get_pretrained_cfg(name)
        folder = folder_of(name, getattr(repository, "hf_hub_id", None) or f"timm/{name}")
        found = model.load_state_dict(read_weights(folder / "model.safetensors"), strict=False)
        if found.missing_keys:
            raise UserError(f"the weights in {folder} are not those of timm's {name}: {found.missing_keys[0]} is missing")
    globalise(model)
    _globalise_fused(model)
    return TimmBackbone(model, spec["shape"], spec["config"])


def classifier(name: str, width: int) -> Classifier | None:
    """The published classifier over the pooled features; None where there is none, or one of another form."""
    timm = library()
    folder = folder_of(name, getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None) or f"timm/{name}")
    published = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    key = (published.get("pretrained_cfg") or timm.get_pretrained_cfg(name).to_dict()).get("classifier")
    weights = read_weights(folder / "model.safetensors")
    if not isinstance(key, str) or f"{key}.weight" not in weights or f"{key}.bias" not in weights:
        return None
    weight, bias = weights[f"{key}.weight"].flatten(1), weights[f"{key}.bias"]
    if weight.shape != (len(bias), width):
        return None
    return Classifier(weight, bias, tuple(published.get("label_names") or _imagenet(len(bias))))


def _imagenet(classes: int) -> list[str]:
    """What timm calls the classes of ImageNet-1k, which most of its published models know; numbers for another count."""
    known = library().data.ImageNetInfo()
    return [known.index_to_description(i) if classes == known.num_classes() else f"class {i}" for i in range(classes)]


class TimmBackbone(Backbone):
    """A timm model without its classifier; pooled is what timm gives the classifier, tokens are its last map without class and register tokens.

    Images are normalised with the model's own mean and deviation. Models of fixed input size get their images resized to it; the others get images below 128
    pixels enlarged by a power of two that keeps a token on a whole number of the view's pixels. Plain vision transformers interpolate their positions and
    can leave hidden patches out; everything else sees them painted over.
    """

    modality = "image"

    def __init__(self, model: Any, shape: dict[str, Any], config: dict[str, Any]):
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        self.model = model
        self.channels = shape["channels"]
        self.drops = type(model) is VisionTransformer
        stride = model.feature_info[-1]["reduction"] if getattr(model, "feature_info", None) else None
        size, scale = config["size"], 1
        if size is None and stride is not None:
            wish = max(0, round(math.log2(SMALLEST / shape["size"])))
            scale = next(2**i for i in range(wish, -1, -1) if stride % 2**i == 0)
        enlarged = scale if size is None else size / shape["size"]
        self.patch = round(stride / enlarged) if stride is not None and (stride / enlarged).is_integer() else None
        self.pixels = PixelInput(3, config["mean"], config["std"], self.patch, (size, size) if size else None, scale, paints=not self.drops)
        if self.drops:
            self.mask = nn.Parameter(torch.empty(model.embed_dim))
            nn.init.trunc_normal_(self.mask, std=0.02)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions take half of the time, on CPUs and with bfloat16 on GPUs
        with torch.no_grad():
            self.eval()
            features = self({"pixels": torch.zeros(1, shape["channels"], shape["size"], shape["size"])})
        self.train()
        self.width, self.token_width = features.pooled.shape[-1], features.tokens.shape[-1]

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        pixels = self.pixels(inputs["pixels"], masked).contiguous(memory_format=torch.channels_last)
        out = self._transform(pixels, masked, drop) if self.drops and masked is not None else self.model.forward_features(pixels)
        return Features(self.model.forward_head(out), self._tokens(out))

    def _transform(self, pixels: Tensor, masked: Tensor, drop: bool) -> Tensor:
        """timm's ``VisionTransformer.forward_features`` with hidden patches."""
        content = self.model.patch_embed(pixels)
        batch, rows, columns, _ = content.shape
        check_mask(masked, rows * columns)
        if not drop:
            content = torch.where(masked.view(batch, rows, columns, 1), self.mask.to(content.dtype), content)
        x = self.model._pos_embed(content)
        if drop:
            index, filled = visible(masked, None)
            if filled is not None:
                raise ValueError("timm models drop patches only where every image of a batch hides the same number")
            prefix = x.shape[1] - rows * columns
            x = torch.cat([x[:, :prefix], take(x[:, prefix:], index)], dim=1)
        return cast(Tensor, self.model.norm(self.model.blocks(self.model.norm_pre(x))))

    def _tokens(self, out: Tensor) -> Tensor:
        if out.ndim == 3:
            return out[:, getattr(self.model, "num_prefix_tokens", 0) :]
        if out.shape[1] != self.model.num_features and out.shape[3] == self.model.num_features:  # channels last, as Swin has them
            return out.flatten(1, 2)
        return out.flatten(2).transpose(1, 2)

    def positions(self, inputs: Inputs) -> int:
        return self.pixels.positions(inputs["pixels"])


def export(student: Student, folder: Path) -> None:
    """Write the model as timm keeps it, head included: ``timm.create_model("local-dir:FOLDER", pretrained=True)``, or ``checkpoint_path=`` its weights."""
    from timm.models._hub import save_config_for_hf

    config, backbone = student.spec["config"], student.backbone
    assert isinstance(backbone, TimmBackbone)
    model = library().create_model(config["architecture"], num_classes=len(student.classes), **config["arguments"])
    model.load_state_dict(backbone.model.state_dict(), strict=False)
    if student.head is not None:
        classifier = model.get_classifier()
        if student.neck is not None or not isinstance(classifier, nn.Linear) or classifier.weight.shape != student.head.weight.shape:
            return  # a neck, or a classifier of another form: the model is only saved in our own format
        classifier.load_state_dict({k: v.cpu() for k, v in student.head.state_dict().items()})
    folder.mkdir(exist_ok=True)
    save_file(plain_weights(model), folder / "model.safetensors")
    pretrained = {"mean": config["mean"], "std": config["std"]}
    save_config_for_hf(model, str(folder / "config.json"), {"pretrained_cfg": pretrained, "label_names": list(student.classes)})


@functools.cache
def _fused_norm() -> type[nn.Module]:
    from timm.layers import BatchNormAct2d

    class GlobalBatchNormAct2d(BatchNormAct2d):
        """timm's batch norm with activation, with the statistics of the global batch."""

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.act(self.drop(batch_norm(self, x))))

    return GlobalBatchNormAct2d


def _globalise_fused(model: nn.Module) -> None:
    from timm.layers import BatchNormAct2d

    for child in model.modules():
        if type(child) is BatchNormAct2d:
            child.__class__ = _fused_norm()  # type: ignore[assignment]
