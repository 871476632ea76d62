"""transformers models as backbones (extra ``text``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from understudy.data.modalities import TextModality
from understudy.data.samples import Inputs
from understudy.errors import MissingExtra, UserError
from understudy.models.backbone import Backbone, Features, check_mask, pooled_mean
from understudy.models.image import PixelInput
from understudy.models.named import Classifier, folder_of
from understudy.models.norm import globalise

if TYPE_CHECKING:
    from understudy.models.student import Student


def library() -> Any:
    """transformers. Raises MissingExtra where its models can not be imported."""
    try:
        import transformers
        import transformers.modeling_utils  # what the lazy package would only fail at later
    except (ImportError, RuntimeError):
        raise MissingExtra("text", "a transformers model") from None
    return transformers


def describe(name: str, modality: Any, pretrained: bool = True) -> dict[str, Any]:
    """See ``named.describe``."""
    transformers = library()
    if modality.name not in ("image", "text"):
        raise UserError(f"hf:{name} reads text or image, and the data are {modality.name}")
    folder = folder_of(name, name)
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} is no transformers model ({str(error).splitlines()[0]})") from None
    if hasattr(config, "text_config") or config.is_encoder_decoder:
        raise UserError(f"hf:{name} ({config.model_type}) is more than an encoder of one kind of data; choose a model such as BERT, ViT or DINOv2")
    reads = "text" if getattr(config, "vocab_size", None) else "image"
    if reads != modality.name:
        raise UserError(f"hf:{name} ({config.model_type}) reads {reads}, and the data are {modality.name}")
    described: dict[str, Any] = {"model": json.loads(config.to_json_string(use_diff=False))}
    shape: dict[str, Any]
    if reads == "image":
        shape = {"channels": modality.channels, "size": modality.size}
        processor = json.loads((folder / "preprocessor_config.json").read_text()) if (folder / "preprocessor_config.json").exists() else {}
        described |= {"mean": processor.get("image_mean", 0.5), "std": processor.get("image_std", 0.5)}
    else:
        # Positions up to and including the padding id are not positions of tokens in RoBERTa's family.
        offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        shape = {"length": min(modality.length, getattr(config, "max_position_embeddings", modality.length) - offset)}
        described |= {"mask": text_modality(name, shape["length"]).mask}
    return {"name": f"hf:{name}", "shape": shape, "options": {"pretrained": pretrained}, "config": described}


def text_modality(name: str, length: int) -> TextModality:
    """Text in the tokens of this model."""
    return TextModality.from_hf(tokenizer(name), length)


def tokenizer(name: str) -> Any:
    """The tokenizer that the model was published with. Raises UserError where there is none."""
    folder = folder_of(name, name)
    try:
        return library().AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no tokenizer that transformers can load ({str(error).splitlines()[0]})") from None


def build(name: str, spec: dict[str, Any], published: bool) -> Backbone:
    """See ``named.build``."""
    model = model_of("AutoModel", name, spec, published)
    pooler = getattr(model, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        model.pooler = None  # pooled features are ours; parameters without a gradient would only be carried along
    globalise(model)
    return HfText(model, spec["config"]) if "length" in spec["shape"] else HfImage(model, spec["shape"], spec["config"])


def model_of(kind: str, name: str, spec: dict[str, Any], published: bool) -> Any:
    """The model of a specification as transformers' ``kind`` makes it, in float32. Code that comes with a model is never run. Raises UserError."""
    transformers = library()
    described = dict(spec["config"]["model"])
    try:
        config = transformers.AutoConfig.for_model(described.pop("model_type"), **described)
        if published:
            model = getattr(transformers, kind).from_pretrained(folder_of(name, name), config=config, use_safetensors=True)
        else:
            model = getattr(transformers, kind).from_config(config)
    except (OSError, ValueError) as error:
        raise UserError(f"can not build hf:{name} ({str(error).splitlines()[0]})") from None
    return model.float()


class HfText(Backbone):
    """A transformers text encoder or causal model.

    Pooled is the mean of the last tokens that are not padding. Hidden tokens become the tokenizer's mask token.
    """

    modality = "text"
    patch = 1

    def __init__(self, model: Any, config: dict[str, Any]):
        super().__init__()
        self.model = model
        self.width = self.token_width = model.config.hidden_size
        self.mask_id: int | None = config["mask"]

    @property
    def vocabulary(self) -> nn.Embedding:
        """The input embedding."""
        return cast(nn.Embedding, self.model.get_input_embeddings())

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        return self.read(self.model(**self.arguments(inputs, masked)), inputs)

    def arguments(self, inputs: Inputs, masked: Tensor | None) -> dict[str, Tensor]:
        """What the model is called with."""
        tokens, padding = inputs["tokens"], inputs["padding"]
        if masked is not None:
            check_mask(masked, tokens.shape[1])
            if self.mask_id is None:
                kind = self.model.config.model_type
                raise UserError(f"the tokenizer of this {kind} has no mask token, so nothing can be hidden from it; choose a masked model such as BERT")
            tokens = tokens.masked_fill(masked, self.mask_id)
        look = ~padding
        look[:, :1] |= ~look.any(1, keepdim=True)
        return {"input_ids": tokens, "attention_mask": look.long()}

    def read(self, answer: Any, inputs: Inputs) -> Features:
        """The features in what the model answered."""
        out = answer.last_hidden_state
        return Features(pooled_mean(out, inputs["padding"]), out, inputs["padding"])

    def positions(self, inputs: Inputs) -> int:
        return inputs["tokens"].shape[1]


class HfImage(Backbone):
    """A transformers image encoder. Images are normalised as its processor says and resized to its ``image_size``; hidden patches are painted over.

    Tokens are its last map without class tokens; pooled is the class token where there is one, else the mean.
    """

    modality = "image"

    def __init__(self, model: Any, shape: dict[str, Any], config: dict[str, Any]):
        super().__init__()
        self.model = model
        self.channels = shape["channels"]
        size, patch = getattr(model.config, "image_size", None), getattr(model.config, "patch_size", None)
        self.cell = patch if isinstance(patch, int) else None
        covered = patch * shape["size"] / size if isinstance(size, int) and isinstance(patch, int) else None
        self.patch = round(covered) if covered is not None and float(covered).is_integer() else None
        self.pixels = PixelInput(model.config.num_channels, config["mean"], config["std"], self.patch, (size, size) if isinstance(size, int) else None)
        with torch.no_grad():
            self.eval()
            features = self({"pixels": torch.zeros(1, shape["channels"], shape["size"], shape["size"])})
        self.train()
        self.width = self.token_width = features.pooled.shape[-1]

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        return self.read(self.model(**self.arguments(inputs, masked)), inputs)

    def arguments(self, inputs: Inputs, masked: Tensor | None) -> dict[str, Tensor]:
        """What the model is called with."""
        return {"pixel_values": self.pixels(inputs["pixels"], masked)}

    def read(self, answer: Any, inputs: Inputs) -> Features:
        """The features in what the model answered."""
        out, pixels = answer.last_hidden_state, self.pixels(inputs["pixels"])
        if out.ndim == 4:
            out = out.flatten(2).transpose(1, 2)
            return Features(out.mean(1), out)
        places = (pixels.shape[2] // self.cell) * (pixels.shape[3] // self.cell) if self.cell else out.shape[1]
        prefix = max(0, out.shape[1] - places)
        return Features(out[:, 0] if prefix else out.mean(1), out[:, prefix:])

    def positions(self, inputs: Inputs) -> int:
        return self.pixels.positions(inputs["pixels"])


class HfClassifier(Backbone):
    """A transformers classifier up to its last linear layer: pooled is what that layer reads, so its logits are the published ones."""

    def __init__(self, encoder: HfText | HfImage, model: Any, last: nn.Linear):
        super().__init__()
        self.encoder, self.model, self.last = encoder, model, last
        self.modality, self.patch = encoder.modality, encoder.patch
        self.width, self.token_width = last.in_features, encoder.token_width

    def forward(self, inputs: Inputs, masked: Tensor | None = None, drop: bool = False) -> Features:
        seen: dict[str, Any] = {}
        hooks = [
            self.encoder.model.register_forward_hook(lambda module, given, answer: seen.update(answer=answer)),
            self.last.register_forward_pre_hook(lambda module, given: seen.update(pooled=given[0])),
        ]
        try:
            self.model(**self.encoder.arguments(inputs, masked))
        finally:
            for hook in hooks:
                hook.remove()
        pooled = seen["pooled"]
        if pooled.ndim == 3:  # a language model's scores of every token, of which the last one's count
            last = (~inputs["padding"]).sum(1).clamp_min(1) - 1
            pooled = pooled[torch.arange(len(pooled), device=pooled.device), last]
        return self.encoder.read(seen["answer"], inputs)._replace(pooled=pooled)

    def positions(self, inputs: Inputs) -> int:
        return self.encoder.positions(inputs)


def with_classifier(name: str, spec: dict[str, Any]) -> tuple[Backbone, Classifier] | None:
    """See ``named.with_classifier``. Several labels at a time, or a number, are no classifier in our sense."""
    transformers = library()
    folder = folder_of(name, name)
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = "ForSequenceClassification" if "length" in spec["shape"] else "ForImageClassification"
    if not any(made.endswith(kind) for made in config.architectures or ()) or config.num_labels < 2 or config.problem_type == "multi_label_classification":
        return None
    model = getattr(transformers, f"AutoModel{kind}").from_pretrained(folder, use_safetensors=True).float()
    last = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == config.num_labels][-1]
    encoder = HfText(model.base_model, spec["config"]) if "length" in spec["shape"] else HfImage(model.base_model, spec["shape"], spec["config"])
    globalise(model)
    bias = torch.zeros(config.num_labels) if last.bias is None else last.bias
    classes = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    return HfClassifier(encoder, model, last), Classifier(last.weight.detach(), bias.detach(), classes)


def export(student: Student, folder: Path) -> None:
    """Write the backbone as transformers keeps it (and the tokenizer beside it): ``AutoModel.from_pretrained(FOLDER)``."""
    model: Any = student.backbone.model
    model.save_pretrained(folder)
    if isinstance(student.modality, TextModality):
        modality = student.modality
        token = {name: modality.tokenizer.id_to_token(i) for name, i in (("pad_token", modality.pad), ("mask_token", modality.mask)) if i is not None}
        library().PreTrainedTokenizerFast(tokenizer_object=modality.tokenizer, **token).save_pretrained(folder)
