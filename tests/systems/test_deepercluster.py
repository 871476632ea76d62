"""DeeperCluster: it learns, its two levels of clusters nest, and what it is asked is a cluster of the image and how far that was turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.systems.training import made
from understudy import evaluate, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.split import hold_out
from understudy.models import Student
from understudy.systems.ssl_cluster.deepercluster_round import hierarchy, turned

COMMON: dict[str, Any] = {"train__batch": 64, "optim__lr": 1e-2, "watch__action": "off"}


def test_clusters_and_rotations_teach_more_than_rotations() -> None:
    train, test = hold_out(known.digits(), 0.3, 100)
    unlabelled = known.few_labels(train, 0, 100)
    start = models.build("tiny-resnet", train.modality, train.classes, 100, widths=(8, 16, 32))

    def probed(student: Student) -> float:
        return evaluate.few_shot(evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels, 5, key=100).mean

    def learned(**settings: Any) -> float:
        settings = {"rounds": 3, "clusters": 16, "crop_scale": (0.4, 1.0), **settings}
        return probed(learn("deepercluster", start, unlabelled, seed=100, steps=250, settings=settings, **COMMON).student)

    both, rotations = learned(), learned(super_clusters=1, clusters=1)
    assert both > rotations + 0.05 and both > probed(start) + 0.1, f"{both:.3f}, rotations alone {rotations:.3f}, untrained {probed(start):.3f}"


def test_clusters_nest_within_super_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.tensor([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]])
    truth = torch.arange(80) % 4
    seen = torch.cat([places[truth], torch.zeros(80, 1)], 1) + 0.02 * torch.randn(80, 3, generator=generator)
    labels = hierarchy(seen, 2, 8, 2, key=3)
    for c in range(2):  # a super-cluster holds whole corners, and no cluster holds two of them
        assert not set(truth[labels // 8 == c].tolist()) & set(truth[labels // 8 != c].tolist())
    assert all(len(set(truth[labels == z].tolist())) == 1 for z in labels.unique().tolist())
    torch.testing.assert_close(hierarchy(seen, 2, 8, 2, key=3), labels)


def test_fewer_samples_than_clusters() -> None:
    labels = hierarchy(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), 4, 32, 8, key=0)
    assert labels.shape == (5,) and int(labels.max()) < 4 * 32


def test_turned() -> None:
    pixels = torch.arange(2 * 9.0).view(2, 1, 3, 3)
    found = turned(pixels, torch.tensor([1, 2]))
    torch.testing.assert_close(found[0], pixels[0].rot90(1, (1, 2)))
    torch.testing.assert_close(found[1], pixels[1].flip(1, 2))


def test_each_pair_of_super_cluster_and_rotation_has_its_own_classifier(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(64))
    objective = made("deepercluster-round", data, tmp_path, settings={"super_clusters": 2, "clusters": 3}).train()
    batch = objective.samples()["everything"].batch(torch.arange(16))
    objective.losses(batch)["cluster"].sum().backward()
    used = objective.heads.weight.grad.view(8, 3, -1).abs().sum((1, 2)) > 0
    asked = 4 * (batch.labels // 3) + objective.turns(batch)
    assert set(used.nonzero().squeeze(1).tolist()) == set(asked.tolist())


def test_every_cluster_is_as_heavy_as_another(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(200))
    found = made("deepercluster-round", data, tmp_path, settings={"super_clusters": 2, "clusters": 4}).samples()["everything"]
    mass = torch.zeros(8).index_add_(0, found.labels, found.weights)
    torch.testing.assert_close(mass[mass > 0], torch.full((int((mass > 0).sum()),), 200 / float((mass > 0).sum())))


def test_rounds_cluster_anew(tmp_path: Path) -> None:
    data = known.digits().take(torch.arange(200))
    facts = learn(
        "deepercluster", models.build("tiny-resnet", data.modality, (), 0), data, seed=0, steps=12, settings={"rounds": 2, "clusters": 8}, **COMMON
    ).facts
    assert len(facts["rounds"]) == 2 and all(fact["clusters"] > 4 and 0 < fact["largest"] < 0.5 for fact in facts["rounds"])
