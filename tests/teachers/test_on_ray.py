"""Labelling on a Ray cluster gives the labels that one process gives, also when a node dies half way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy import models, teachers
from understudy.data import known
from understudy.errors import UserError
from understudy.labels import LabelStore, Soft
from understudy.teachers.kinds import Frozen

pytestmark = [pytest.mark.slow, pytest.mark.skipif("not __import__('importlib.util').util.find_spec('ray')", reason="needs the extra ray")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes of one core each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def begun(folder: Path, rows: int = 16384) -> tuple[Frozen, Any, LabelStore]:
    samples = known.digits()
    teacher = Frozen(models.build("tiny-resnet", samples.modality, samples.classes, 1))
    store = LabelStore.create(
        folder, teacher=teacher.fingerprint, data=samples.fingerprint, view={"name": "weak", "seed": 3}, codec=Soft("float32"), classes=samples.classes,
        data_size=len(samples), shard_rows=rows,
    )  # fmt: skip
    return teacher, samples, store


def test_a_cluster_gives_the_labels_of_one_process_and_a_dead_node_loses_none(cluster: Any, tmp_path: Path) -> None:
    teacher, samples, alone = begun(tmp_path / "alone")
    teachers.label(teacher, samples, alone, views=2)
    _, _, shared = begun(tmp_path / "shared", rows=128)
    told: list[int] = []

    def progress(count: int) -> None:
        told.append(count)
        if len(told) == 5:
            cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)

    teachers.label_on_ray(teacher, samples, shared, views=2, progress=progress)
    assert len(told) > 10 and sum(told) == 2 * len(samples)
    ours, theirs = LabelStore.open(shared.folder), LabelStore.open(alone.folder)
    assert len(ours) == 2 * len(samples)
    for number in range(2):
        mine, his = (store.read(samples.keys, number)["probabilities"] for store in (ours, theirs))
        torch.testing.assert_close(mine, his, rtol=0, atol=1e-6)
    assert teachers.label_on_ray(teacher, samples, shared, views=2) == 0


def test_what_goes_wrong_on_a_node_is_one_sentence(cluster: Any, tmp_path: Path) -> None:
    teacher, samples, store = begun(tmp_path / "store")
    other = Frozen(models.build("tiny-resnet", samples.modality, samples.classes, 2))
    with pytest.raises(UserError, match="teacher"):
        teachers.label_on_ray(other, samples, store)
    with pytest.raises(UserError, match="no node of the Ray cluster has a GPU"):
        teachers.label_on_ray(teacher, samples, store, device="cuda")
