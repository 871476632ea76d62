"""Columns of SMILES, and what can be computed about the molecules in them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.molecule import MoleculeModality, rdkit
from understudy.data.quarantine import Quarantine
from understudy.data.rows import Texts, Tokens, digest
from understudy.data.samples import Encoded, Modality
from understudy.errors import MissingExtra

LONGEST = 128
"""Tokens: with more, the built-in student needs longer than minutes on two CPU cores."""
_LOOKED_AT = 50_000


def properties(smiles: Sequence[str]) -> Tensor:
    """All descriptors of RDKit, float64 ``[N, P]`` in the order of ``property_names``; NaN for what it can not compute. Takes 4 ms a molecule, and remembers.

    Raises MissingExtra without RDKit.
    """
    return torch.tensor([_properties(one) for one in smiles], dtype=torch.float64).view(len(smiles), -1)


def property_names() -> tuple[str, ...]:
    """The descriptors of the RDKit that is installed. Raises MissingExtra where none is."""
    if rdkit() is None:
        raise MissingExtra("molecule", "computing properties of molecules")
    from rdkit.Chem import Descriptors

    return tuple(name for name, _ in Descriptors.descList)


@functools.lru_cache(maxsize=100_000)
def _properties(smiles: str) -> tuple[float, ...]:
    names, chem = property_names(), rdkit()
    from rdkit.Chem import Descriptors

    molecule = chem.MolFromSmiles(smiles)  # type: ignore[union-attr]
    values = {} if molecule is None else Descriptors.CalcMolDescriptors(molecule, missingVal=math.nan, silent=True)
    return tuple(float(values.get(name, math.nan)) for name in names)


class Molecules(Texts):
    """A column of SMILES. With RDKit they are checked, and copies are found however they are written."""

    kind = "molecule"

    def fit(self, size: int | None, seed: int) -> Modality:
        """A tokenizer of the atoms and bonds in these molecules, at a length that holds the longest and a quarter more, at most ``size`` (``LONGEST``) tokens."""
        texts = [text.strip() for text in self.texts if text.strip()]
        if len(texts) > _LOOKED_AT:
            texts = [texts[i] for i in keyed.choice(keyed.fold(seed, "tokenizer"), len(texts), _LOOKED_AT).tolist()]
        whole = MoleculeModality.train(texts, length=1 << 20)
        lengths = [len(whole.encode(text)["tokens"]) for text in texts] or [0]
        self.tokens = {"median": round(median(lengths)), "greatest": max(lengths), "vocabulary": whole.vocabulary}
        return MoleculeModality(whole.tokenizer, min(size or LONGEST, max(16, 8 * math.ceil(1.25 * max(lengths) / 8))))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        chem, kept, digests = rdkit(), [], []
        for i, text in enumerate(self.texts):
            smiles: str | None = text.strip()
            if smiles and chem is not None:
                molecule = chem.MolFromSmiles(smiles)
                smiles = None if molecule is None else chem.MolToSmiles(molecule)
            if smiles:
                kept.append(i)
                digests.append(digest(smiles))
            else:
                quarantine.add(self.where[i], "no molecule: RDKit can not parse it" if text.strip() else "the SMILES is empty")
        texts = [self.texts[i].strip() for i in kept]
        return Tokens([modality.encode(text) for text in texts], texts, modality), kept, digests

    def describe(self) -> list[str]:
        said = ["Their SMILES have {least:,} to {greatest:,} characters, half of them at most {median:,}".format(**self.characters)]
        if self.tokens:
            said[0] += f"; at most {self.tokens['greatest']:,} tokens (atoms, bonds, ring numbers), of which there are {self.tokens['vocabulary']:,}"
        said[0] += "."
        if rdkit() is None:
            said.append("RDKit is not installed: they are not checked, and training sees each as it is written only (pip install 'understudy[molecule]').")
        return said
