"""The built-in backbone of molecules: the one of texts, over the tokens of SMILES."""

from __future__ import annotations

from understudy.models.text import TextTransformer


class MoleculeTransformer(TextTransformer):
    """A bidirectional transformer over atoms, bonds and ring numbers, as ChemBERTa is (2209.01712)."""

    modality = "molecule"
