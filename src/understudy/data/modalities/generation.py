"""Prompts and answers: what a language model reads and what it should write after it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from understudy.data.samples import Inputs, View
from understudy.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END = "[PAD]", "[END]"
FILE = "tokenizer.json"


@dataclass(frozen=True)
class Exchange:
    """A prompt, and what is known about its answer."""

    prompt: str
    answer: str | None = None
    """The answer to learn, or to check others against; None where nobody gave one."""
    rejected: str | None = None
    """An answer that is worse than ``answer``, where preferences are learned."""


class GenerationModality:
    """Prompt, answer and an end token as one sequence of at most ``length`` tokens.

    Prompt and answer are tokenised apart, so that the tokens of a prompt are the same with and without an answer. ``start`` stands before every prompt; where it
    is None only before an empty one, in the form of ``end``: a first token has nothing to be predicted from. What is too long loses the beginning of
    its prompt, then the end of its answer.
    """

    name = "generation"
    noun = "prompts"
    views: tuple[str, ...] = ("plain", "prompt", "rejected")

    def __init__(self, tokenizer: Tokenizer, length: int, end: int, pad: int, start: int | None = None):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer, self.length, self.end, self.pad, self.start = tokenizer, length, end, pad, start
        if length < 2:
            raise UserError(f"a length of {length} tokens leaves no room for a prompt and an answer: choose a larger length")

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special ones included."""
        return int(self.tokenizer.get_vocab_size())

    @classmethod
    def characters(cls, alphabet: Iterable[str], length: int = 128) -> GenerationModality:
        """Every character of ``alphabet`` (or of all texts given) is a token; others can not be written."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

        letters = sorted({letter for text in alphabet for letter in text})
        tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate([PAD, END, *letters])}, unk_token=PAD))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        tokenizer.decoder = decoders.Fuse()
        return cls(tokenizer, length, end=1, pad=0, start=1)

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int = 4000, length: int = 128) -> GenerationModality:
        """Learn byte-level BPE from ``texts``: any string can be written in it, and the same texts give the same tokenizer."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if vocabulary < 2 + len(alphabet):
            raise UserError(f"a byte-level vocabulary needs at least {2 + len(alphabet)} tokens, got vocabulary={vocabulary}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[PAD, END], initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer, length, end=1, pad=0, start=1)

    @classmethod
    def from_hf(cls, tokenizer: Any, length: int = 512) -> GenerationModality:
        """The tokenizer of a transformers language model. Raises UserError where it is not backed by ``tokenizers`` or names no end of text."""
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(f"{type(tokenizer).__name__} is not backed by the tokenizers library: load the fast variant of this tokenizer")
        if tokenizer.eos_token_id is None:
            raise UserError(f"{type(tokenizer).__name__} has no token that ends a text, so answers would never stop; choose another model")
        pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        before = tokenizer("").input_ids  # a start token, where this model's texts have one
        return cls(
            Tokenizer.from_str(backend.to_str()), length, tokenizer.eos_token_id, pad, before[0] if before and before[0] != tokenizer.eos_token_id else None
        )

    def signature(self) -> dict[str, Any]:
        digest = hashlib.blake2b(self.tokenizer.to_str().encode(), digest_size=12).hexdigest()
        return {"name": self.name, "length": self.length, "end": self.end, "pad": self.pad, "start": self.start, "tokenizer": digest}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None) -> GenerationModality:
        """The modality of ``signature`` with the tokenizer.json in ``folder``. Raises UserError where that is missing or another one."""
        from tokenizers import Tokenizer

        if folder is None:
            raise UserError("prompts and answers are read with a tokenizer.json: name the folder that holds it")
        path = folder / FILE
        if not path.is_file():
            raise UserError(f"{folder} has no {FILE}, without which its prompts cannot be read: copy it from where the model was saved")
        modality = cls(Tokenizer.from_file(str(path)), signature["length"], signature["end"], signature["pad"], signature["start"])
        if modality.signature() != signature:
            raise UserError(f"{path} is not the tokenizer that this model was trained with: copy the file from where the model was saved")
        return modality

    def shape(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "length": self.length}

    def examples(self, count: int) -> Inputs:
        letters = "".join(str(self.tokenizer.id_to_token(i)) for i in range(self.vocabulary) if i not in (self.pad, self.end, self.start))[:8]
        return self.collate([self.encode(Exchange(letters, letters[:1]))] * count)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a piece of text, without start and end."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids  # type: ignore[no-any-return]

    def ends(self, text: str) -> list[int]:
        """Where each of ``tokens(text)`` ends, in characters; tokens that are parts of one character end where it does."""
        return [end for _, end in self.tokenizer.encode(text, add_special_tokens=False).offsets]

    def decode(self, tokens: Tensor) -> list[str]:
        """The texts of answers int64 ``[B, A]``, each up to its end token or a negative one."""
        rows = [[token for token in row if token >= 0] for row in tokens.tolist()]
        return [self.tokenizer.decode(row[: row.index(self.end)] if self.end in row else row) for row in rows]

    def encode(self, original: Exchange) -> Inputs:
        """``{"tokens": int64 [L], "prompt": int64 [], "length": int64 []}``, ``prompt`` the number of tokens before the answer; ``rejected`` likewise, if there is one."""
        start = [self.start] if self.start is not None else []
        prompt = (start + self.tokens(original.prompt) or [self.end])[-(self.length - 1) :]
        encoded: Inputs = {"prompt": torch.tensor(len(prompt))}
        for name, answer in (("", original.answer), ("rejected_", original.rejected)):
            if answer is not None or not name:
                whole = (prompt + ([] if answer is None else [*self.tokens(answer), self.end]))[: self.length]
                encoded |= {f"{name}tokens": torch.tensor(whole), f"{name}length": torch.tensor(len(whole))}
        return encoded

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        """Pad to the longest. Raises ValueError where some of the samples have a rejected answer and some have none."""
        names = set(encoded[0])
        if any(set(one) != names for one in encoded):
            raise ValueError("either all samples of a source have a rejected answer or none has")

        def joined(name: str) -> Tensor:
            values = [one[name] for one in encoded]
            return torch.nn.utils.rnn.pad_sequence(values, True, self.pad) if name.endswith("tokens") else torch.stack(values)

        return {name: joined(name) for name in sorted(names)}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``plain``: prompt and answer, or ``rejected``: prompt and rejected answer, as ``{"tokens": int64 [B, L], "padding": bool [B, L], "answer": bool [B, L]}``
        where ``answer`` is true at the tokens of the answer and its end; ``prompt``: the prompt alone, padded in front, to write after it.
        """
        if options:
            raise UserError(f"prompts and answers are seen as they are: the view '{name}' has no option '{next(iter(options))}'")
        if name not in self.views or (name == "rejected" and "rejected_tokens" not in raw):
            raise UserError(f"these prompts and answers have no view '{name}': choose one of {', '.join(self.views[: 2 + ('rejected_tokens' in raw)])}")
        prefix = "rejected_" if name == "rejected" else ""
        tokens, length, prompt = raw[f"{prefix}tokens"], raw[f"{prefix}length"].unsqueeze(1), raw["prompt"].unsqueeze(1)
        place = torch.arange(tokens.shape[1], device=tokens.device)
        if name == "prompt":
            ahead = place - (tokens.shape[1] - prompt)
            return View(name, {"tokens": tokens.gather(1, ahead.clamp_min(0)).masked_fill(ahead < 0, self.pad), "padding": ahead < 0}, keys)
        padding = place >= length
        return View(name, {"tokens": tokens, "padding": padding, "answer": (place >= prompt) & ~padding}, keys)
