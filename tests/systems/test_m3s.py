"""M3S: labels grow where classifier and clusters agree, stay once given, and a graph with few labels is learned better."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import accuracy, learn
from understudy.data import known
from understudy.systems.base import Proposals


def test_labels_grow_where_both_agree_and_stay(tmp_path: Path) -> None:
    samples = known.few_labels(known.graph_of_digits().take(torch.arange(300)), 2, 7)
    grown = []
    for agree in (True, False):
        system = made("m3s", samples, tmp_path / str(agree), "tiny-gcn", {"agree": agree, "grow": 3, "stages": 2}, train__steps=30, train__batch=20)
        teacher = system.first()
        first = system.propose(teacher, 1)
        taken = system.taken.clone()
        sure, said = first.confidence, first.labels
        for c in range(10):
            own = (said == c).nonzero().squeeze(-1)
            best = own[sure[own].argsort(descending=True)[:3]]
            given = (taken == c).nonzero().squeeze(-1)
            assert set(given.tolist()) <= set(best.tolist()) if agree else set(given.tolist()) == set(best.tolist())
        system.propose(teacher, 2)
        kept = taken >= 0
        assert torch.equal(system.taken[kept], taken[kept]) and int((system.taken >= 0).sum()) >= int(kept.sum())
        grown.append(int(kept.sum()))
        assert len(system.select(first, 1)) == 20 + int((system.taken >= 0).sum())
    assert 0 < grown[0] <= grown[1]


def test_a_cluster_belongs_to_the_class_of_its_neighbourhood(tmp_path: Path) -> None:
    samples = known.few_labels(known.graph_of_digits().take(torch.arange(300)), 2, 7)
    system = made("m3s", samples, tmp_path, "tiny-gcn", {"stages": 1}, train__steps=60, train__batch=20)
    teacher = system.first()
    pool = system.pool()
    truth = known.graph_of_digits().labels[pool.positions]
    clustered = system.clustered(teacher, Proposals(pool, torch.nn.functional.one_hot(truth, 10).float()))
    assert float((clustered == truth).float().mean()) > 0.6


def test_a_few_labels_become_many() -> None:
    everything = known.graph_of_digits()
    few = known.few_labels(everything, 1, 7)
    rest = everything.take(few.labels < 0)
    start = models.build("tiny-gcn", everything.modality, everything.classes, 7)
    common = {"seed": 7, "steps": 150, "train__batch": 16, "optim__lr": 1e-2}
    alone = accuracy(learn("supervised", start, few, settings={"view": "plain"}, **common).student, rest)
    grown = accuracy(learn("m3s", start, few, **common).student, rest)
    assert grown > alone + 0.02, (grown, alone)
