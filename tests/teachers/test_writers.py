"""Who writes: a policy, a server, vLLM; each draw belongs to its key."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from understudy import models
from understudy.data import problems
from understudy.errors import MissingExtra, UserError
from understudy.teachers.writers import PolicyWriter, Sampling, ServerWriter, VllmWriter, answered

SAMPLES = problems.draw("addition", 12, 2, 1)
PROMPTS = [exchange.prompt for exchange in problems.exchanges_of(SAMPLES)]


def policy() -> Any:
    return models.build("tiny-lm", SAMPLES.modality, (), 1, width=32)


def test_a_policy_writes_the_same_in_batches_of_any_size() -> None:
    whole = PolicyWriter(policy(), Sampling(longest=5))(PROMPTS, SAMPLES.keys)
    assert PolicyWriter(policy(), Sampling(longest=5), batch=5)(PROMPTS, SAMPLES.keys) == whole
    assert PolicyWriter(policy(), Sampling(longest=5))(PROMPTS, SAMPLES.keys + 1) != whole
    first, other = PolicyWriter(policy()), PolicyWriter(policy(), Sampling(temperature=0.5))
    assert first.fingerprint == PolicyWriter(policy()).fingerprint != other.fingerprint


def test_answers_become_samples() -> None:
    said = answered(problems.hidden(SAMPLES, 0, 1), PolicyWriter(policy(), Sampling(longest=3)), 7)
    assert len(said.labelled) == 12 and said.ids == SAMPLES.ids
    assert [e.prompt for e in problems.exchanges_of(said)] == PROMPTS


class Handler(BaseHTTPRequestHandler):
    bodies: list[dict[str, Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append({**body, "path": self.path})
        asked = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        said = f"{asked} {body['seed']}"
        reply = {"choices": [{"text": said} if "prompt" in body else {"message": {"content": said}}]} if asked != "odd" else {"no": 1}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    Handler.bodies.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("chat", [True, False])
def test_a_server_is_asked_with_its_key_as_the_seed(url: str, chat: bool) -> None:
    writer = ServerWriter(f"{url}#m", Sampling(0.7, 0.9, 40, 32), chat=chat, stop=["\n"])
    assert writer(["a", "b", "a"], torch.tensor([5, 6, 7])) == ["a 5", "b 6", "a 7"]
    body = Handler.bodies[0]
    assert body["path"] == ("/v1/chat/completions" if chat else "/v1/completions")
    assert (body["model"], body["temperature"], body["top_p"], body["top_k"], body["max_tokens"], body["stop"]) == ("m", 0.7, 0.9, 40, 32, ["\n"])
    with pytest.raises(UserError, match="does not answer as an OpenAI-compatible"):
        writer(["odd"], torch.tensor([1]))


def test_vllm_gets_the_saved_folder_and_a_seed_for_each_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingExtra, match="vllm"):
        VllmWriter(tmp_path)
    seen: dict[str, Any] = {}

    class LLM:
        def __init__(self, model: str):
            seen["model"] = model

        def generate(self, prompts: list[str], each: list[Any]) -> list[Any]:
            return [SimpleNamespace(outputs=[SimpleNamespace(text=f"{p}{s.seed}")]) for p, s in zip(prompts, each, strict=True)]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **given: SimpleNamespace(**given)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no folder hf"):
        VllmWriter(tmp_path)
    (tmp_path / "hf").mkdir()
    assert VllmWriter(tmp_path)(["a", "b"], torch.tensor([3, 4])) == ["a3", "b4"] and seen["model"] == str(tmp_path / "hf")
