"""Columns of SMILES: which columns are, what is set aside, which rows are copies, and what is computed about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from understudy.data import molecules
from understudy.data.modalities.molecule import MoleculeModality
from understudy.data.source import open_source
from understudy.errors import MissingExtra, UserError

pytest.importorskip("rdkit")


def rows(path: Path, name: str, smiles: list[str]) -> Path:
    path.write_text(f"{name},label\n" + "".join(f"{one},{'acid' if 'O' in one else 'other'}\n" for one in smiles))
    return path


@pytest.mark.parametrize(("name", "options"), [("smiles", {}), ("SMILES", {}), ("structure", {"modality": "molecule", "text_column": "structure"})])
def test_a_column_of_smiles(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    found = open_source(rows(tmp_path / "a.csv", name, ["CCO", "c1ccccc1", "CC(=O)O"] * 4 + ["ClCCBr"]), **options)  # type: ignore[arg-type]
    assert found.modality == "molecule" and isinstance(found.train.modality, MoleculeModality)
    assert found.train.classes == ("acid", "other") and len(found.train) == 13
    assert found.facts.copies_within == 9
    assert found.train.encoded.original(12) == "ClCCBr" and found.train.batch([0]).raw["length"].tolist() == [5]  # type: ignore[arg-type]
    assert "13 molecules" in found.describe()[0]


def test_copies_are_found_however_they_are_written(tmp_path: Path) -> None:
    test = rows(tmp_path / "b.csv", "smiles", ["OCC", "CC"])
    found = open_source(rows(tmp_path / "a.csv", "smiles", ["CCO", "CCC", "C"]), test=test)
    assert found.facts.copies_across == 1 and [found.train.encoded.original(int(p)) for p in found.train.positions] == ["CCC", "C"]


def test_what_is_no_molecule_goes_to_quarantine(tmp_path: Path) -> None:
    found = open_source(rows(tmp_path / "a.csv", "smiles", ["CCO"] * 300 + ["c1ccc", "", "CO"]))
    assert len(found.train) == 301 and [reason for _, reason in found.facts.unreadable] == ["no molecule: RDKit can not parse it", "the SMILES is empty"]


def test_mistakes_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("a,smiles\n1,2\n")
    for path, options, said in (
        (rows(tmp_path / "a.csv", "x", ["C"]), {"modality": "molecule"}, "has no column 'smiles'"),
        (tmp_path / "n.csv", {}, "holds int64 instead of text"),
        (rows(tmp_path / "b.csv", "smiles", ["((("]), {}, "not one of the 1 samples"),
    ):
        with pytest.raises(UserError, match=said):
            open_source(path, **options)  # type: ignore[arg-type]


def test_properties_are_what_is_known_of_ethanol(monkeypatch: pytest.MonkeyPatch) -> None:
    values = dict(zip(molecules.property_names(), molecules.properties(["CCO", "((("])[0].tolist(), strict=True))
    assert values["MolWt"] == pytest.approx(46.069, abs=1e-3) and values["TPSA"] == pytest.approx(20.23) and values["HeavyAtomCount"] == 3
    assert molecules.properties(["((("]).isnan().all()
    monkeypatch.setattr(molecules, "rdkit", lambda: None)
    with pytest.raises(MissingExtra, match="molecule"):
        molecules.property_names()
