"""timm and transformers models, where these libraries can be imported: built untrained or from folders made here, since nothing may need a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models.samples import CLASSES, every_second, inputs, masked_view, modality
from understudy import models
from understudy.errors import MissingExtra, UserError
from understudy.models import from_hf, from_timm
from understudy.models.reconstruct import decoder_for
from understudy.teachers.base import Teacher

VIT = "timm:vit_tiny_patch16_224"


def or_skip(library: Any) -> Any:
    try:
        return library()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture
def timm() -> Any:
    return or_skip(from_timm.library)


@pytest.fixture
def transformers() -> Any:
    return or_skip(from_hf.library)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNDERSTUDY_MODELS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"])
def test_timm_students_save_as_timm_does(name: str, timm: Any, tmp_path: Path) -> None:
    s, x = models.build(f"timm:{name}", modality("image", 32, 3), CLASSES, 1, pretrained=False), inputs("image", 2, size=32, channels=3)
    assert all(torch.equal(p, q) for p, q in zip(s.state_dict().values(), s.reinitialised(1).state_dict().values(), strict=True))
    s.train()(x)
    s.eval()
    features = s.features(x)
    assert features.pooled.shape == (2, s.backbone.width) and features.tokens.shape == (2, s.backbone.positions(x), s.backbone.token_width)
    models.save(s, tmp_path / "m")
    assert torch.equal(models.load(tmp_path / "m")(x), s(x))
    normalised = s.backbone.pixels(x["pixels"])
    arguments = s.spec["config"]["arguments"]
    for theirs in (
        timm.create_model(f"local-dir:{tmp_path}/m/timm", pretrained=True),
        timm.create_model(name, num_classes=3, checkpoint_path=str(tmp_path / "m/timm/model.safetensors"), **arguments),
    ):
        torch.testing.assert_close(theirs.eval()(normalised), s(x), atol=1e-5, rtol=1e-5)


def test_timm_normalises_with_its_own_mean_and_enlarges_small_images(timm: Any) -> None:
    s = models.build("timm:resnet10t.c3_in1k", modality("image", 28), (), 1, pretrained=False)
    grey = torch.full((1, 1, 28, 28), 0.5)
    seen = s.backbone.pixels(grey)
    assert seen.shape == (1, 3, 112 + 16, 112 + 16) and s.backbone.patch == 8  # 28 is filled up to 32, the next multiple of the patch
    mean, std = timm.get_pretrained_cfg("resnet10t.c3_in1k").mean, timm.get_pretrained_cfg("resnet10t.c3_in1k").std
    torch.testing.assert_close(seen[0, :, 50, 50], (0.5 - torch.tensor(mean)) / torch.tensor(std))


@pytest.mark.parametrize(("name", "drops"), [(VIT, True), ("timm:resnet10t", False)])
def test_timm_hides_patches(name: str, drops: bool, timm: Any) -> None:
    s = models.build(name, modality("image", 32, 3), (), 1, pretrained=False).eval()
    x, y = (inputs("image", 2, seed=seed, size=32, channels=3) for seed in (0, 1))
    total, patch = s.backbone.positions(x), s.backbone.patch
    side = 32 // patch
    masked = every_second(total, 2)
    hidden = masked.view(2, 1, side, side).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    y = {"pixels": torch.where(hidden, y["pixels"], x["pixels"])}
    assert s.backbone.drops == drops
    for drop in (False, True):
        a, b = s.backbone(x, masked, drop), s.backbone(y, masked, drop)
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.pooled, b.pooled)
        assert a.tokens.shape[1] == (total // 2 if drop and drops else total)
    assert not torch.allclose(s.backbone(x).pooled, s.backbone(y).pooled)
    loss = decoder_for(s.backbone, key=1, dropped=drops)(s.backbone(x, masked, drops), masked_view(x, masked))
    assert loss.shape == (2,) and torch.isfinite(loss).all()
    if drops:  # nothing hidden: the masked path is timm's own
        nothing = torch.zeros_like(masked)
        torch.testing.assert_close(s.backbone(x, nothing, True).tokens, s.backbone(x).tokens, atol=1e-5, rtol=1e-5)
        assert s.backbone(inputs("image", 1, size=16, channels=3)).tokens.shape[1] == 16  # a local crop


def test_timm_weights_come_from_a_local_folder_and_never_from_a_pickle(timm: Any, shelf: Path) -> None:
    first = models.build("timm:resnet10t", modality("image", 32, 3), CLASSES, 7, pretrained=False)
    models.save(first, shelf / "run")
    (shelf / "run" / "timm").rename(shelf / "resnet10t")
    second = models.build("timm:resnet10t", modality("image", 32, 3), CLASSES, 8)
    x = inputs("image", 2, size=32, channels=3)
    assert torch.equal(first.eval().features(x).pooled, second.eval().features(x).pooled)
    assert not torch.equal(first.head.weight, second.head.weight)
    (shelf / "resnet10t" / "model.safetensors").rename(shelf / "resnet10t" / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        models.build("timm:resnet10t", modality("image", 32, 3), CLASSES, 8)


def test_unknown_timm_names_are_answered_with_near_ones(timm: Any) -> None:
    with pytest.raises(UserError, match="resnet18"):
        models.build("timm:resnet_18", modality("image"), (), 0)
    with pytest.raises(UserError, match="the data are text"):
        models.build("timm:resnet18", modality("text"), (), 0)
    with pytest.raises(UserError, match="pretrained"):
        models.build("timm:resnet18", modality("image"), (), 0, pretraind=False)


def bert(transformers: Any, folder: Path, **options: Any) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "dog", "ran"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=12,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_hf_text_brings_its_tokenizer_and_saves_as_transformers_does(transformers: Any, shelf: Path, tmp_path: Path) -> None:
    folder = bert(transformers, shelf / "tiny" / "bert")
    s = models.build("hf:tiny/bert", modality("text"), CLASSES, 1).eval()
    assert s.modality.length == 12 and s.modality.mask == 4
    texts = ["the cat sat", "the dog", ""]
    view = s.modality.view(s.modality.collate([s.modality.encode(t) for t in texts]), "plain", torch.arange(3))
    features = s.features(view.inputs)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    encoded = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    expected = theirs(**encoded).last_hidden_state
    for i, length in enumerate(encoded["attention_mask"].sum(1).tolist()):
        torch.testing.assert_close(features.tokens[i, :length], expected[i, :length], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(features.pooled[i], expected[i, :length].mean(0), atol=1e-5, rtol=1e-5)
    models.save(s, tmp_path / "m")
    back = models.load(tmp_path / "m")
    assert torch.equal(back(view.inputs), s(view.inputs))
    again = transformers.AutoModel.from_pretrained(tmp_path / "m/hf").eval()
    torch.testing.assert_close(again(**encoded).last_hidden_state, expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m/hf")
    assert tokenizer(texts, padding=True)["input_ids"] == encoded["input_ids"].tolist() and tokenizer.mask_token == "[MASK]"


def test_hf_text_hides_tokens(transformers: Any, shelf: Path) -> None:
    bert(transformers, shelf / "bert")
    s = models.build("hf:bert", modality("text"), (), 1).eval()
    x = {"tokens": torch.tensor([[2, 5, 6, 7, 3], [2, 5, 8, 3, 0]]), "padding": torch.tensor([[False] * 5, [False] * 4 + [True]])}
    masked = torch.tensor([[False, True, False, True, False], [False, False, True, False, False]])
    y = {**x, "tokens": torch.where(masked, 9, x["tokens"])}
    assert torch.equal(s.backbone(x, masked).tokens, s.backbone(y, masked).tokens)
    decoder = decoder_for(s.backbone, key=0)
    assert torch.equal(decoder.head.words.weight, s.backbone.vocabulary.weight)
    assert decoder(s.backbone(x, masked), masked_view(x, masked)).shape == (2,)


def test_hf_images_are_resized_and_normalised_as_the_processor_says(transformers: Any, shelf: Path, tmp_path: Path) -> None:
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8)
    torch.manual_seed(0)
    transformers.ViTModel(config).save_pretrained(shelf / "vit")
    (shelf / "vit" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}))
    s = models.build("hf:vit", modality("image", 16, 1), CLASSES, 1).eval()
    assert s.backbone.patch == 4 and not s.backbone.drops
    x = {"pixels": torch.full((2, 1, 16, 16), 0.4)}
    theirs = transformers.AutoModel.from_pretrained(shelf / "vit").eval()
    pixels = ((0.4 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 0.6, 0.7])).view(1, 3, 1, 1).expand(2, 3, 32, 32)
    expected = theirs(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(s.features(x).pooled, expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(s.features(x).tokens, expected[:, 1:], atol=1e-5, rtol=1e-5)
    masked = every_second(16, 2)
    noise = torch.rand(2, 1, 16, 16)
    hidden = masked.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = {"pixels": torch.where(hidden, noise, x["pixels"])}
    assert torch.equal(s.backbone(x, masked).tokens, s.backbone(other, masked).tokens)
    models.save(s, tmp_path / "m")
    assert torch.equal(models.load(tmp_path / "m")(x), s(x))


def test_hf_mistakes_are_said(transformers: Any, shelf: Path) -> None:
    bert(transformers, shelf / "bert")
    with pytest.raises(UserError, match="reads text, and the data are image"):
        models.build("hf:bert", modality("image"), (), 0)
    with pytest.raises(UserError, match="the data are table"):
        models.build("hf:bert", modality("table"), (), 0)
    (shelf / "bert" / "model.safetensors").rename(shelf / "bert" / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        models.build("hf:bert", modality("text"), (), 0)
    (shelf / "empty").mkdir()
    with pytest.raises(UserError, match="no model.safetensors"):
        models.build("hf:empty", modality("text"), (), 0)


def test_without_the_hub_a_local_folder_is_asked_for(transformers: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match="UNDERSTUDY_MODELS"):
        models.build("hf:some/model", modality("text"), (), 0)


def test_timm_is_published_with_its_classifier(timm: Any, shelf: Path) -> None:
    from timm.models._hub import save_config_for_hf

    torch.manual_seed(0)
    for name in ("resnet10t", "mobilenetv3_small_050"):
        theirs = timm.create_model(name, num_classes=3).eval()
        (shelf / name).mkdir()
        save_file(theirs.state_dict(), shelf / name / "model.safetensors")
        save_config_for_hf(theirs, str(shelf / name / "config.json"), {"label_names": ["cat", "dog", "fox"]})
        teacher = Teacher.of(f"timm:{name}", modality=modality("image", 128, 3), classes=("fox", "cat"))
        x = torch.rand(2, 3, 128, 128)
        expected = theirs(teacher.model.backbone.pixels(x))
        torch.testing.assert_close(teacher.model({"pixels": x}), expected, atol=1e-5, rtol=1e-4)
        assert teacher.model.classes == ("cat", "dog", "fox") and teacher.classes == ("fox", "cat") and "logits" in teacher.offers
        featured = Teacher.of(f"timm:{name}", modality=modality("image", 128, 3), classes=("fox", "bear"))
        assert "logits" not in featured.offers and "pooled" in featured.offers


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert", "GPT2"])
def test_hf_text_is_published_with_its_classifier(kind: str, transformers: Any, shelf: Path) -> None:
    folder = bert(transformers, shelf / kind)
    for weights in folder.glob("model*"):
        weights.unlink()
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    sizes = {"DistilBert": {"n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64}, "GPT2": {"n_layer": 2, "n_head": 2, "n_embd": 32}}.get(kind, sizes)
    vocabulary = len((folder / "vocab.txt").read_text().splitlines())
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocabulary,
        pad_token_id=0,
        max_position_embeddings=16,
        id2label={0: "bad", 1: "fair", 2: "good"},
        label2id={"bad": 0, "fair": 1, "good": 2},
        **sizes,
    )
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(folder)
    teacher = Teacher.of(f"hf:{kind}", modality=modality("text"), classes=("good", "bad"))
    texts = ["the cat sat", "the dog", "dog"]
    own = teacher.model.modality
    view = own.view(own.collate([own.encode(t) for t in texts]), "plain", torch.arange(3))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    expected = theirs(**transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt", return_token_type_ids=False)).logits
    torch.testing.assert_close(teacher.model(view.inputs), expected, atol=1e-5, rtol=1e-4)
    assert teacher.model.classes == ("bad", "fair", "good") and teacher.classes == ("good", "bad")
    assert models.build(f"hf:{kind}", modality("text"), (), 0).head is None


def test_hf_images_are_published_with_their_classifier(transformers: Any, shelf: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8, id2label={0: "cat", 1: "dog", 2: "fox"}
    )
    torch.manual_seed(0)
    transformers.ViTForImageClassification(config).save_pretrained(shelf / "vit")
    teacher = Teacher.of("hf:vit", modality=modality("image", 32, 3))
    x = torch.rand(2, 3, 32, 32)
    theirs = transformers.AutoModelForImageClassification.from_pretrained(shelf / "vit").eval()
    torch.testing.assert_close(teacher.model({"pixels": x}), theirs(pixel_values=(x - 0.5) / 0.5).logits, atol=1e-5, rtol=1e-4)
    assert teacher.classes == ("cat", "dog", "fox")
