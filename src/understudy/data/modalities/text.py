"""Texts: byte-level tokens, and views that drop, move and hide them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.masking import hide
from understudy.data.samples import Inputs, View
from understudy.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILE = "tokenizer.json"


class TextModality:
    """Texts as at most ``length`` tokens of a ``tokenizers`` tokenizer, special tokens included.

    ``special`` are the ids that no view drops, moves, hides or draws; ``pad`` fills rows up, ``mask`` stands for hidden tokens where it exists.
    """

    name = "text"
    noun = "texts"
    views: tuple[str, ...] = ("plain", "weak", "strong", "masked")

    def __init__(self, tokenizer: Tokenizer, length: int = 128, special: Iterable[int] | None = None, pad: int | None = None, mask: int | None = None):
        if special is None:
            ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
            special, pad, mask = [i for i in ids.values() if i is not None], ids["[PAD]"], ids["[MASK]"]
        self.tokenizer, self.length = tokenizer, length
        self.special, self.pad, self.mask = tuple(sorted(set(special))), pad or 0, mask
        self._special: dict[torch.device, Tensor] = {}
        if length <= tokenizer.num_special_tokens_to_add(False):
            raise UserError(f"a length of {length} tokens leaves no room for text: choose a larger length")
        tokenizer.no_padding()
        tokenizer.enable_truncation(length)

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special ones included."""
        return int(self.tokenizer.get_vocab_size())

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int = 8000, length: int = 128) -> TextModality:
        """Learn byte-level BPE from ``texts``: any string can be written in it, and the same texts give the same tokenizer."""
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if vocabulary < len(SPECIAL) + len(alphabet):
            raise UserError(f"a byte-level vocabulary needs at least {len(SPECIAL) + len(alphabet)} tokens, got vocabulary={vocabulary}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet), show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        return cls(tokenizer, length)

    @classmethod
    def from_hf(cls, tokenizer: Any, length: int = 128) -> TextModality:
        """A transformers tokenizer. Raises UserError for the few that are not backed by ``tokenizers`` and so cannot be saved as tokenizer.json."""
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UserError(f"{type(tokenizer).__name__} is not backed by the tokenizers library: load the fast variant of this tokenizer")
        return cls(Tokenizer.from_str(backend.to_str()), length, tokenizer.all_special_ids, tokenizer.pad_token_id, tokenizer.mask_token_id)

    def signature(self) -> dict[str, Any]:
        digest = hashlib.blake2b(self.tokenizer.to_str().encode(), digest_size=12).hexdigest()
        return {"name": self.name, "length": self.length, "special": list(self.special), "pad": self.pad, "mask": self.mask, "tokenizer": digest}

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which transformers loads as well."""
        (folder / FILE).write_text(self.tokenizer.to_str(), encoding="utf-8")

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None) -> TextModality:
        from tokenizers import Tokenizer

        if signature.get("pair") and cls is TextModality:
            from understudy.data.modalities.text_pair import TextPairModality

            return TextPairModality.restore(signature, folder)
        if folder is None:
            raise UserError("a text modality is rebuilt from its tokenizer.json: name the folder that holds it")
        path = folder / FILE
        if not path.is_file():
            raise UserError(f"{folder} has no {FILE}, without which its texts cannot be read: copy it from where the model was saved")
        modality = cls(Tokenizer.from_file(str(path)), signature["length"], signature["special"], signature["pad"], signature["mask"])
        if modality.signature() != signature:
            raise UserError(f"{path} is not the tokenizer that this model was trained with: copy the file from where the model was saved")
        return modality

    def shape(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "length": self.length}

    def examples(self, count: int) -> Inputs:
        longest = min(self.length, 16)
        lengths = torch.arange(count) % (longest - 1) + 2
        lengths[-1] = longest
        tokens = 1 + keyed.integers(keyed.fold(keyed.fold(0, "example"), torch.arange(count)), self.vocabulary - 1, (longest,))
        return {"tokens": tokens * (torch.arange(longest) < lengths.unsqueeze(1)), "length": lengths}

    def with_tokens_of(self, other: TextModality) -> TextModality:
        """The same kind of texts in the tokens of ``other``."""
        return type(self)(other.tokenizer, other.length, other.special, other.pad, other.mask)

    def encode(self, original: str) -> Inputs:
        """``{"tokens": int64 [L], "length": int64 []}``, cut to ``length`` and not padded."""
        tokens = torch.tensor(self.tokenizer.encode(original).ids, dtype=torch.int64)
        return {"tokens": tokens, "length": torch.tensor(len(tokens))}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        """Pad to the longest: ``{"tokens": int64 [B, L], "length": int64 [B]}``."""
        tokens = torch.nn.utils.rnn.pad_sequence([e["tokens"] for e in encoded], batch_first=True, padding_value=self.pad)
        return {"tokens": tokens, "length": torch.stack([e["length"] for e in encoded])}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"tokens": int64 [B, L], "padding": bool [B, L]}``, of the width of ``raw``; special tokens are always kept.

        ``plain``; ``weak``: 5 % of the tokens dropped; ``strong``: a span of 60 to 100 % of the text, 15 % of it dropped, the rest moved by less
        than three places as in Lample et al. (arXiv 1711.00043, section 2.3); ``masked``: ``ratio`` of the tokens of view ``base`` hidden.
        """
        tokens = raw["tokens"]
        padding = torch.arange(tokens.shape[1], device=tokens.device) >= raw["length"].unsqueeze(1)
        match name:
            case "masked":
                return self._masked(raw, keys, **options)
            case "plain":
                pass
            case "weak":
                tokens, padding = self._thinned(tokens, padding, keys, drop=0.05, **options)
            case "strong":
                tokens, padding = self._thinned(tokens, padding, keys, drop=0.15, span=0.6, reach=3.0, **options)
            case _:
                raise UserError(f"{self.noun} have no view '{name}': choose one of {', '.join(self.views)}")
        return View(name, {"tokens": tokens, "padding": padding}, keys)

    def _content(self, tokens: Tensor, padding: Tensor) -> Tensor:
        if tokens.device not in self._special:
            self._special[tokens.device] = torch.tensor(self.special, device=tokens.device)
        return ~padding & ~torch.isin(tokens, self._special[tokens.device])

    def _thinned(self, tokens: Tensor, padding: Tensor, keys: Tensor, drop: float, span: float = 1.0, reach: float = 0.0) -> tuple[Tensor, Tensor]:
        """Crop, drop and move in one sort: every kept token is put at its place plus a draw below ``reach``. At least one token of a text is kept."""
        content = self._content(tokens, padding)
        width = tokens.shape[1]
        order = content.cumsum(1)
        count = order[:, -1:]
        u = keyed.uniform(keyed.fold(keys, "span"), (2,)).to(torch.float64)
        kept = torch.ceil(count * (u[:, :1] * (1.0 - span) + span))
        first = torch.floor((count - kept + 1) * u[:, 1:])
        inside = content & (order > first) & (order <= first + kept)

        luck = keyed.uniform(keyed.fold(keys, "drop"), (width,)).masked_fill(~inside, -1.0)
        best = luck == luck.amax(1, keepdim=True)
        stays = inside & ((luck >= drop) | best)
        anchored = ~padding & ~content
        place = torch.arange(width, dtype=torch.float64, device=tokens.device).expand_as(tokens)
        moved = place + keyed.uniform(keyed.fold(keys, "move"), (width,)).to(torch.float64) * reach
        moved = torch.where(anchored, place + torch.where(order == 0, -4.0, 4.0) * width, moved)  # special tokens stay at the two ends
        moved = moved.masked_fill(~(stays | anchored), torch.inf)
        tokens = tokens.gather(1, moved.argsort(dim=1, stable=True))
        padding = torch.arange(width, device=tokens.device) >= (stays | anchored).sum(1, keepdim=True)
        return tokens.masked_fill(padding, self.pad), padding

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.15, base: str = "plain", bert: bool = False, **options: Any) -> View:
        """``bert`` writes BERT's replacements (80 % [MASK], 10 % another token, 10 % unchanged; arXiv 1810.04805, section 3.1) into the tokens.

        The true tokens are then in the input ``original``, and the model must not be told to hide ``masked``, which says where the loss is.
        """
        inputs = self.view(raw, base, keyed.fold(keys, "base"), **options).inputs  # type: ignore[arg-type]
        tokens = inputs["tokens"]
        masked = hide(keyed.fold(keys, "mask"), self._content(tokens, inputs["padding"]), ratio)  # type: ignore[arg-type]
        if bert:
            if self.mask is None:
                raise UserError("this tokenizer has no mask token: leave bert=False, and the model hides tokens by a learned embedding")
            u = keyed.uniform(keyed.fold(keys, "replacement"), (tokens.shape[1],))
            other = keyed.integers(keyed.fold(keys, "token"), self.vocabulary - len(self.special), (tokens.shape[1],))
            for token in self.special:  # step over each of them, in ascending order
                other = other + (other >= token)
            replaced = torch.where(u < 0.8, self.mask, torch.where(u < 0.9, other, tokens))
            inputs = {**inputs, "tokens": torch.where(masked, replaced, tokens), "original": tokens}
        return View("masked", inputs, keys, masked, max(1, round(tokens.shape[1] * ratio)))
