"""Policies: the same answers in every batch, likelihoods that add up, adapters, transformers models, and what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from understudy import models
from understudy.data.modalities import Exchange, GenerationModality
from understudy.errors import UserError
from understudy.models import Policy

LETTERS = GenerationModality.characters(["0123456789+="], length=16)
ASKED = [Exchange("12+345=", "753"), Exchange("1+2=", "3"), Exchange("99+1=", "001")]


def inputs(policy: Any, exchanges: list[Exchange], view: str = "plain") -> Any:
    modality = policy.modality
    raw = modality.collate([modality.encode(exchange) for exchange in exchanges])
    return modality.view(raw, view, torch.zeros(len(exchanges), dtype=torch.int64)).inputs


def small(**options: Any) -> Any:
    return models.build("tiny-lm", LETTERS, (), 1, width=32, **options).eval()


def transformers_folder(folder: Path, kind: str) -> str:
    transformers = pytest.importorskip("transformers")
    words = GenerationModality.train(["hello world 1 2 3", "the cat sat"], 300, 32)
    transformers.PreTrainedTokenizerFast(tokenizer_object=words.tokenizer, eos_token="[END]", pad_token="[PAD]").save_pretrained(folder)
    sizes: dict[str, Any] = {"vocab_size": words.vocabulary, "bos_token_id": 1, "eos_token_id": 1}
    if kind == "gpt2":
        config = transformers.GPT2Config(n_positions=32, n_embd=32, n_layer=2, n_head=2, **sizes)
    else:
        config = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32, **sizes
        )
    with models.seeded(0):
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return f"hf:{folder}"


def built(kind: str, folder: Path, **options: Any) -> tuple[Any, list[Exchange]]:
    if kind == "built-in":
        return small(**options), ASKED
    name = transformers_folder(folder, kind)
    return models.build(name, GenerationModality.train(["x"], 300, 32), (), 1, **options).eval(), [Exchange("hello", " world"), Exchange("the cat", " sat 1 2")]


@pytest.mark.parametrize("kind", ["built-in", "gpt2", "llama"])
def test_an_answer_does_not_depend_on_its_batch(kind: str, tmp_path: Path) -> None:
    policy, asked = built(kind, tmp_path)
    keys = torch.arange(40, 40 + len(asked))
    together = policy.write(inputs(policy, asked, "prompt"), keys, longest=6)
    for i, exchange in enumerate(asked):
        alone = policy.write(inputs(policy, [exchange], "prompt"), keys[i : i + 1], longest=6)[0]
        assert [x for x in together[i].tolist() if x >= 0] == [x for x in alone.tolist() if x >= 0]
    other = policy.write(inputs(policy, asked, "prompt"), keys + 100, longest=6)
    assert other.shape != together.shape or not torch.equal(other, together), "another key is another draw"


@pytest.mark.parametrize("kind", ["built-in", "gpt2", "llama"])
def test_the_likeliest_tokens_one_by_one_are_those_of_the_whole_text(kind: str, tmp_path: Path) -> None:
    """What is remembered from token to token must not change what is thought."""
    policy, asked = built(kind, tmp_path)
    prompts = inputs(policy, asked, "prompt")
    answers = policy.write(prompts, torch.zeros(len(asked), dtype=torch.int64), longest=5, temperature=0.0)
    whole = policy.continued(prompts, answers)
    logits = policy(whole)
    logits[..., policy.modality.pad] = -torch.inf
    said = logits[:, prompts["tokens"].shape[1] - 1 : -1].argmax(-1)
    written = answers >= 0
    assert torch.equal(said[written], answers[written])


@pytest.mark.parametrize("kind", ["built-in", "llama"])
def test_padding_changes_no_likelihood(kind: str, tmp_path: Path) -> None:
    policy, asked = built(kind, tmp_path)
    together = policy.log_probability(inputs(policy, asked))
    alone = torch.cat([policy.log_probability(inputs(policy, [exchange])) for exchange in asked])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    padded_in_front = policy.continued(inputs(policy, asked, "prompt"), answers_of(policy, asked))
    torch.testing.assert_close(policy.log_probability(padded_in_front), alone, rtol=1e-5, atol=1e-5)


def answers_of(policy: Any, exchanges: list[Exchange]) -> torch.Tensor:
    rows = [[*policy.modality.tokens(exchange.answer or ""), policy.modality.end] for exchange in exchanges]
    most = max(map(len, rows))
    return torch.tensor([row + [-1] * (most - len(row)) for row in rows])


def test_the_likelihood_is_the_chance_of_being_drawn() -> None:
    policy = small()
    prompts = inputs(policy, [Exchange("1+1=")] * 4000, "prompt")
    drawn = policy.write(prompts, torch.arange(4000), longest=1, temperature=1.0).squeeze(1)
    whole = policy.continued({k: v[:1] for k, v in prompts.items()}, torch.tensor([[4]]))
    chance = float(policy.token_log_probabilities(whole)[0, -1].exp())
    assert float((drawn == 4).float().mean()) == pytest.approx(chance, abs=0.02)


def test_an_answer_ends_where_the_model_does() -> None:
    policy = small()
    answers = policy.write(inputs(policy, [Exchange("123456789+123"), Exchange("1")], "prompt"), torch.arange(2), temperature=0.01)
    assert [(row >= 0).sum().item() for row in answers] == [2, 14], "length is 16 tokens, of which the start and the prompt take 14 and 2"
    assert policy.modality.pad not in answers.tolist()[1]


@pytest.mark.parametrize("kind", ["built-in", "gpt2"])
def test_adapters_start_at_nothing_and_alone_learn(kind: str, tmp_path: Path) -> None:
    plain, asked = built(kind, tmp_path / "model")
    policy, _ = built(kind, tmp_path / "model", lora=2)
    given = inputs(policy, asked)
    torch.testing.assert_close(policy(given), plain(given))
    learning = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    assert learning and all("lora_" in name for name in learning)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    models.save(policy, tmp_path / "saved")
    loaded = models.load(tmp_path / "saved")
    assert isinstance(loaded, Policy) and torch.equal(loaded(given), policy(given))


def test_what_transformers_loads_has_the_adapters_in_it(tmp_path: Path) -> None:
    policy, asked = built("llama", tmp_path / "model", lora=2)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    models.save(policy, tmp_path / "saved")
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved" / "hf").eval()
    tokens = inputs(policy, asked[:1])["tokens"]
    torch.testing.assert_close(theirs(input_ids=tokens).logits, policy({"tokens": tokens, "padding": torch.zeros_like(tokens, dtype=torch.bool)}))
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "saved" / "hf")("hello").input_ids == policy.modality.tokens("hello")


def test_a_saved_policy_writes_the_same(tmp_path: Path) -> None:
    policy = small()
    models.save(policy, tmp_path)
    loaded: Any = models.load(tmp_path)
    prompts, keys = inputs(policy, ASKED, "prompt"), torch.arange(3)
    assert torch.equal(policy.write(prompts, keys), loaded.write(prompts, keys))
    assert loaded.modality.signature() == policy.modality.signature()


def test_nothing_can_be_hidden_from_it() -> None:
    policy = small()
    given = inputs(policy, ASKED)
    with pytest.raises(UserError, match="left to right"):
        policy.backbone(given, torch.ones_like(given["padding"]))


def test_a_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ViTModel(transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="does not write from left to right"):
        models.build(f"hf:{tmp_path}", LETTERS, (), 1)
