"""Molecules: what is a token, that another SMILES is the same molecule, and what happens to what is none."""

from __future__ import annotations

import pytest
import torch

from understudy import keyed
from understudy.data.modalities import molecule
from understudy.data.modalities.molecule import MoleculeModality

chem = pytest.importorskip("rdkit.Chem")
SMILES = [
    "CCCS(=O)c1ccc2[nH]c(=NC(=O)OC)[nH]c2c1", "CC(C)(C)C(=O)C(Oc1ccc(Cl)cc1)n1ccnc1", "F/C=C/F", "N[C@@H](C)C(=O)O", "BrCC%12CCCC%12", "C", "[Zn+2].[Br-]",
]  # fmt: skip
MODALITY = MoleculeModality.train(SMILES, length=64)
RAW = MODALITY.collate([MODALITY.encode(one) for one in SMILES])
KEYS = torch.as_tensor(keyed.fold(3, torch.arange(len(SMILES))))


def written(name: str, number: int = 0) -> list[str | None]:
    inputs = MODALITY.view(RAW, name, keyed.fold(KEYS, number)).inputs  # type: ignore[arg-type]
    return [MODALITY.smiles(tokens[~padding].tolist()) for tokens, padding in zip(inputs["tokens"], inputs["padding"], strict=True)]


def test_atoms_in_brackets_elements_and_ring_numbers_are_one_token() -> None:
    pieces = MODALITY.tokenizer.encode("BrCC%12[C@@H](Cl)[nH]").tokens
    assert pieces == ["[CLS]", "Br", "C", "C", "%12", "[C@@H]", "(", "Cl", ")", "[nH]", "[SEP]"]
    assert MODALITY.tokenizer.encode("C[Xx]C").tokens[2] == "[UNK]"


def test_what_was_read_is_spelt_back() -> None:
    assert written("plain") == SMILES


@pytest.mark.parametrize("name", ["weak", "strong"])
def test_another_smiles_is_the_same_molecule(name: str) -> None:
    changed = 0
    for number in range(5):
        for before, after in zip(SMILES, written(name, number), strict=True):
            assert chem.CanonSmiles(after) == chem.CanonSmiles(before)
            changed += after != before
    assert changed > (14 if name == "weak" else 18)


def test_strong_views_differ_more_than_weak_ones() -> None:
    seen = {name: len({written(name, number)[0] for number in range(30)}) for name in ("weak", "strong")}
    assert 5 < seen["weak"] <= chem.MolFromSmiles(SMILES[0]).GetNumAtoms() < seen["strong"]


def test_what_is_no_molecule_stays_as_it_is() -> None:
    odd = ["c1ccccc1Brxx", "C(C", "", "C[Xx]C", "C" * 90]
    raw = MODALITY.collate([MODALITY.encode(one) for one in odd])
    inputs = MODALITY.view(raw, "strong", KEYS[:5]).inputs
    assert torch.equal(inputs["tokens"][:, : raw["tokens"].shape[1]], raw["tokens"])


def test_without_rdkit_every_view_is_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(molecule, "rdkit", lambda: None)
    assert written("strong") == written("weak") == SMILES


@pytest.mark.parametrize("name", MODALITY.views)
def test_a_view_is_a_function_of_sample_and_key(name: str) -> None:
    whole = MODALITY.view(RAW, name, KEYS)
    for selection in (torch.tensor([4]), torch.tensor([6, 0, 2])):
        part = MODALITY.view({k: v[selection] for k, v in RAW.items()}, name, KEYS[selection])
        for row, (mine, theirs) in enumerate(zip(part.inputs["tokens"], whole.inputs["tokens"][selection], strict=True)):
            shown = ~part.inputs["padding"][row]
            assert torch.equal(mine[shown], theirs[~whole.inputs["padding"][selection][row]])
            if part.masked is not None and whole.masked is not None:
                assert torch.equal(part.masked[row][shown], whole.masked[selection][row][: len(shown)][shown])
