"""A language model behind an OpenAI-compatible server as a teacher."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from understudy.data.samples import Batch, View
from understudy.errors import UserError
from understudy.teachers.base import Signals, Teacher, digest
from understudy.teachers.endpoint import Endpoint
from understudy.teachers.spoken import spoken

PROMPT = "Which one of these classes does the sample belong to: {classes}?\nAnswer with the name of the class and nothing else.\n\nSample:\n{sample}"


@dataclass(frozen=True)
class _Answer:
    text: str
    first: Mapping[str, float]
    """Log-probabilities of what the first token could have been."""


class Server(Teacher):
    """Asks ``/v1/chat/completions`` for the class of each sample, several at a time.

    The text of the answer is a class if it is the class's name, or else if it mentions one (the first mentioned). Any other answer is label -1 and counted in
    ``unparsed``. Where the server gives the likeliest first tokens (``top_logprobs``), each token that begins the name of one class only
    counts for that class; normalised, these are the probabilities, and the confidence is the answered class's. Otherwise confidence is None (NaN where it is
    missing for some samples only).

    Texts go into the prompt as they are, rows as JSON, images as PNG.
    """

    def __init__(
        self, url: str, *, model: str = "", classes: Sequence[str], prompt: str = PROMPT, max_tokens: int = 16, logprobs: bool = True,
        at_once: int = 8, timeout: float = 60.0, attempts: int = 5, backoff: float = 1.0, secret: str | None = None,
    ):  # fmt: skip
        """``prompt`` holds ``{classes}`` and ``{sample}``; ``url``, ``timeout``, ``attempts``, ``backoff`` and ``secret`` are those of ``Endpoint``."""
        super().__init__()
        self._endpoint = Endpoint(url, "/chat/completions", model=model, timeout=timeout, attempts=attempts, backoff=backoff, secret=secret)
        self.url, self.model = self._endpoint.url, self._endpoint.model
        self.classes = tuple(classes)
        if not self.classes or "{sample}" not in prompt:
            raise UserError("a server that teaches needs the classes to choose from and a prompt with the word {sample} in it.")
        self.unparsed = 0
        self._prompt = prompt.replace("{classes}", ", ".join(self.classes))
        self._names = [_folded(name) for name in self.classes]
        self._body = {"model": self.model, "temperature": 0, "max_tokens": max_tokens, **({"logprobs": True, "top_logprobs": 20} if logprobs else {})}
        self._at_once = at_once

    @property
    def fingerprint(self) -> str:
        return digest("server", self.url, self._body, self._prompt, self.classes)

    @property
    def offers(self) -> frozenset[str]:
        return frozenset({"labels", "probabilities", "text"})

    def answer(self, batch: Batch, view: View) -> Signals:
        """Answers about the originals of the batch, whatever the view. Raises UserError where the server refuses or keeps failing."""
        with ThreadPoolExecutor(self._at_once) as pool:
            answers = list(pool.map(self._ask, batch.originals()))
        labels = [self._class(answer.text) for answer in answers]
        probabilities = torch.zeros(len(labels), len(self.classes))
        confidence = torch.full((len(labels),), math.nan)
        for row, (label, answer) in enumerate(zip(labels, answers, strict=True)):
            if label < 0:
                continue
            masses = self._masses(answer.first) if _folded(answer.text) == self._names[label] else {}
            if label in masses:
                for number, mass in masses.items():
                    probabilities[row, number] = mass / sum(masses.values())
                confidence[row] = probabilities[row, label]
            else:
                probabilities[row, label] = 1.0
        self.unparsed += labels.count(-1)
        return spoken(labels, self.classes, batch.device, None if confidence.isnan().all() else confidence, probabilities, [answer.text for answer in answers])

    def _class(self, text: str) -> int:
        said = _folded(text)
        if said in self._names:
            return self._names.index(said)
        found = [(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said), number) for number, name in enumerate(self._names)]
        mentions = [(match.start(), -len(match[0]), number) for match, number in found if match]
        return min(mentions)[2] if mentions else -1

    def _masses(self, first: Mapping[str, float]) -> dict[int, float]:
        masses: dict[int, float] = {}
        for token, logprob in first.items():
            begun = [number for number, name in enumerate(self._names) if _folded(token) and name.startswith(_folded(token))]
            if len(begun) == 1:
                masses[begun[0]] = masses.get(begun[0], 0.0) + math.exp(logprob)
        return masses

    def _ask(self, original: Any) -> _Answer:
        reply = self._endpoint.post({**self._body, "messages": [{"role": "user", "content": self._content(original)}]})
        try:
            choice = reply["choices"][0]
            tokens = (choice.get("logprobs") or {}).get("content") or []
            first = {entry["token"]: float(entry["logprob"]) for entry in tokens[0].get("top_logprobs") or []} if tokens else {}
            return _Answer(choice["message"]["content"] or "", first)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise self._endpoint.unlike(reply) from error

    def _content(self, original: Any) -> Any:
        if isinstance(original, Image.Image):
            png = io.BytesIO()
            original.save(png, "PNG")
            picture = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
            return [{"type": "text", "text": self._prompt.replace("{sample}", "the image")}, {"type": "image_url", "image_url": {"url": picture}}]
        return self._prompt.replace("{sample}", original if isinstance(original, str) else json.dumps(original, ensure_ascii=False, default=str))


def _folded(text: str) -> str:
    return text.strip(" \t\r\n.,:;!?\"'`*()[]").casefold()
