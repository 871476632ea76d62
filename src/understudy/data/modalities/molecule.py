"""Molecules: SMILES strings of atoms, bonds and ring numbers, and views that write the same molecule in another way."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.text import SPECIAL, TextModality
from understudy.data.samples import Inputs, View

PIECES = r"\[[^\]]+\]|%\d\d|Br|Cl|."
"""What is one token: an atom in brackets, a ring number of two digits, an element of two letters, any other character."""
ALPHABET = tuple(
    re.findall(
        PIECES,
        r"BCNOPSFIClBrbcnops*.-=#$:()/\~0123456789%10%11%12%13%14%15%16%17%18%19"
        "[C@H][C@@H][C@][C@@][nH][N+][O-][n+][N-][NH+][NH2+][NH3+][S@][S@@][H][2H][Na+][K+][Cl-][Br-][Si][Se][se]",
    )
)
"""Tokens that every tokenizer has: the organic subset, bonds, ring numbers, and the commonest atoms in brackets. Others are learnt from the data."""


@functools.cache
def rdkit() -> Any | None:
    """RDKit's ``Chem``, silent about what it can not parse; None where it is not installed."""
    try:
        from rdkit import Chem, RDLogger
    except ImportError:
        return None
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    return Chem


class MoleculeModality(TextModality):
    """A SMILES string as at most ``length`` tokens.

    Views ``weak`` and ``strong`` are other SMILES of the same molecule: the canonical walk from a random atom, and a walk that takes every turn at random
    (SMILES enumeration, 1703.07076). Both are written by RDKit, on the CPU. Without RDKit, and for molecules that it can not parse or whose new SMILES is too long
    or has unknown tokens, they are the text as it stands. ``masked`` hides tokens.
    """

    name = "molecule"
    noun = "molecules"

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int = 1000, length: int = 128) -> MoleculeModality:
        """``ALPHABET`` and the tokens that occur in ``texts``, the frequent ones where there are more than ``vocabulary``."""
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

        splits = pre_tokenizers.Split(Regex(PIECES), "isolated")
        counts = Counter(piece for text in texts for piece, _ in splits.pre_tokenize_str(text))
        own = sorted(set(counts) - set(ALPHABET), key=lambda piece: (-counts[piece], piece))
        words = [*SPECIAL, *ALPHABET, *own][: max(vocabulary, len(SPECIAL) + len(ALPHABET))]
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=SPECIAL[1]))
        tokenizer.add_special_tokens(list(SPECIAL))
        tokenizer.pre_tokenizer = splits
        tokenizer.decoder = decoders.Fuse()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(name, words.index(name)) for name in ("[CLS]", "[SEP]")]
        )
        return cls(tokenizer, length)

    def smiles(self, tokens: list[int]) -> str | None:
        """What ``tokens`` spell; None where that is not certain: a token is unknown, or the text may have been cut."""
        unknown = self.tokenizer.token_to_id(SPECIAL[1])
        return None if unknown in tokens or len(tokens) >= self.length else self.tokenizer.decode(tokens)

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``plain`` and ``masked`` as of texts; ``weak`` and ``strong`` are as wide as the longest SMILES among them, which may be longer than what was read."""
        if name not in ("weak", "strong"):
            return super().view(raw, name, keys, **options)
        tokens, length = self._rewritten(raw, keys, thoroughly=name == "strong", **options)
        padding = torch.arange(tokens.shape[1], device=tokens.device) >= length.unsqueeze(1)
        return View(name, {"tokens": tokens, "padding": padding}, keys)

    def _rewritten(self, raw: Inputs, keys: Tensor, thoroughly: bool) -> tuple[Tensor, Tensor]:
        tokens, lengths = raw["tokens"].tolist(), raw["length"].tolist()
        ranks = keyed.bits(keyed.fold(keys, "atoms"), (self.length,)).cpu().numpy()
        rows = []
        for row, length, rank in zip(tokens, lengths, ranks, strict=True):
            old = row[:length]
            said = self.smiles(old)
            other = None if said is None else another(said, rank, thoroughly)
            new = old if other is None else self.tokenizer.encode(other).ids
            rows.append(old if self.smiles(new) is None else new)
        width, device = max(map(len, rows), default=0), raw["tokens"].device
        filled = [row + [self.pad] * (width - len(row)) for row in rows]
        return torch.tensor(filled, dtype=torch.int64, device=device).view(-1, width), torch.tensor([len(row) for row in rows], device=device)


def another(smiles: str, rank: Any, thoroughly: bool) -> str | None:
    """Another SMILES of the same molecule, by the random numbers ``rank`` (at least one for every atom); None where RDKit is missing or can not parse it."""
    chem = rdkit()
    molecule = None if chem is None else chem.MolFromSmiles(smiles)
    if chem is None or molecule is None or not 0 < molecule.GetNumAtoms() <= len(rank):
        return None
    order = rank[: molecule.GetNumAtoms()].argsort(kind="stable").tolist()
    if thoroughly:
        return str(chem.MolToSmiles(chem.RenumberAtoms(molecule, order), canonical=False))
    return str(chem.MolToSmiles(molecule, rootedAtAtom=order[0]))
