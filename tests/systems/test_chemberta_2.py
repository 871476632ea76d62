"""ChemBERTa-2: what is predicted is what RDKit computes, and who has learned it needs fewer labels."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.systems.training import made
from understudy import evaluate, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.modalities.molecule import MoleculeModality
from understudy.data.molecules import properties, property_names
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out
from understudy.errors import MissingExtra
from understudy.systems.graph_sci import chemberta_2

pytest.importorskip("rdkit")
RINGS, BRIDGES, ENDS = (
    ("c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCNC1", "c1ccsc1"),
    ("", "C", "CC", "C(=O)", "O", "NC(=O)", "S"),
    ("C", "O", "N", "Cl", "C(=O)O", "N#C", "F"),
)


def molecules() -> Samples:
    """A ring, two bridges, an end: 1,225 molecules, labelled by how many of their bonds turn."""
    texts = [f"{end}{second}{bridge}{ring}" for ring in RINGS for bridge in BRIDGES for second in BRIDGES[:5] for end in ENDS]
    kind = MoleculeModality.train(texts, length=32)
    turning = properties(texts)[:, property_names().index("NumRotatableBonds")]
    labels = (turning > turning.median()).long()
    return Samples(kind, InMemory(kind.collate([kind.encode(text) for text in texts]), texts), tuple(texts), labels, ("few", "many"))


def test_targets_are_standardised_and_what_is_the_same_everywhere_does_not_count(tmp_path: Path) -> None:
    samples = molecules()
    system = made("chemberta-2", samples, tmp_path, "tiny-molecule")
    target, known = system.targets(samples.batch(torch.arange(len(samples))))
    assert known[:, property_names().index("MolWt")].all() and not known[:, property_names().index("NumRadicalElectrons")].any()
    assert target.abs().max() <= chemberta_2.FURTHEST
    weight = target[:, property_names().index("MolWt")]
    assert abs(float(weight.mean())) < 0.1 and float(weight.std()) == pytest.approx(1.0, abs=0.1)
    truth = torch.tensor([properties([text])[0, property_names().index("MolWt")] for text in samples.encoded.originals])  # type: ignore[attr-defined]
    assert torch.corrcoef(torch.stack([truth, weight.double()]))[0, 1] > 0.999


@pytest.mark.parametrize("objective", ["mtr", "mlm"])
def test_it_learns_what_it_predicts(objective: str, tmp_path: Path) -> None:
    train, test = hold_out(molecules(), 0.2, 7)
    system = made("chemberta-2", train, tmp_path, "tiny-molecule", {"objective": objective})
    optimizer = torch.optim.AdamW(system.parameters(), 3e-3)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(7))
    for step in range(120):
        optimizer.zero_grad()
        next(iter(system.losses(train.batch(order[torch.arange(step * 32, step * 32 + 32) % len(train)], 7, step)).values())).mean().backward()
        optimizer.step()
    with torch.no_grad():
        loss = float(next(iter(system.losses(test.batch(torch.arange(200))).values())).mean())
    assert loss < (0.75 if objective == "mtr" else 0.5 * math.log(train.modality.vocabulary)), loss  # type: ignore[attr-defined]


def test_a_few_labels_are_worth_more_afterwards() -> None:
    train, test = hold_out(molecules(), 0.3, 7)
    few = known.few_labels(train, 12, 7).labelled
    start = models.build("tiny-molecule", train.modality, (), 7)
    student = learn("chemberta-2", start, train, seed=7, steps=150, train__batch=32, optim__lr=5e-3).student
    before, after = (evaluate.linear_probe(evaluate.features(s, few), few.labels, evaluate.features(s, test), test.labels).value for s in (start, student))
    assert after > before + 0.04, (before, after)


def test_without_rdkit_only_tokens_can_be_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = molecules()
    monkeypatch.setattr(chemberta_2, "rdkit", lambda: None)
    with pytest.raises(MissingExtra, match="objective=mlm"):
        made("chemberta-2", samples, tmp_path, "tiny-molecule")
    assert "tokens" in made("chemberta-2", samples, tmp_path, "tiny-molecule", {"objective": "mlm"}).losses(samples.batch(torch.arange(4)))
