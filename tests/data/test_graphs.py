"""Folders that are graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy.data.modalities import GraphModality
from understudy.data.source import open_source
from understudy.errors import UserError


def graph(path: Path, nodes: str, edges: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "nodes.csv").write_text(nodes)
    (path / "edges.csv").write_text(edges)
    return path


RING = "from,to,weight\n" + "".join(f"p{i},p{(i + 1) % 30},1\n" for i in range(30))


def test_a_graph_with_features(tmp_path: Path) -> None:
    nodes = "id,age,town,label\n" + "".join(f"p{i},{i / 7:.3f},{'AB'[i % 2]},{'xy'[i % 2] if i < 20 else ''}\n" for i in range(30))
    found = open_source(graph(tmp_path / "g", nodes, RING))
    modality = found.train.modality
    assert found.modality == "graph" and isinstance(modality, GraphModality) and modality.width == 3 and modality.fans == (2, 2)
    assert found.train.ids[:2] == ("p0", "p1") and found.train.classes == ("x", "y") and int((found.train.labels < 0).sum()) == 10
    raw = found.train.batch(torch.tensor([4])).raw
    assert set(raw["node"][0, 1:3].tolist()) == {3, 5} and raw["degree"][0, 0] == 2
    said = " ".join(found.describe())
    assert "30 nodes" in said and "30 edges" in said and "1 columns of numbers: age" in said


def test_a_graph_without_features_and_labels_from_a_file(tmp_path: Path) -> None:
    nodes = "id\n" + "".join(f"p{i}\n" for i in range(30))
    (tmp_path / "labels.csv").write_text("id,label\np3,a\np4,b\n")
    found = open_source(graph(tmp_path / "g", nodes, RING), labels=tmp_path / "labels.csv")
    assert found.train.labels[3:5].tolist() == [0, 1] and int((found.train.labels >= 0).sum()) == 2
    assert "code of its own" in " ".join(found.describe())


def test_edges_to_nobody_go_to_quarantine(tmp_path: Path) -> None:
    nodes = "id\n" + "".join(f"p{i}\n" for i in range(300))
    edges = "a,b\n" + "".join(f"p{i},p{i + 1}\n" for i in range(299)) + "p0,p999\n"
    found = open_source(graph(tmp_path / "g", nodes, edges))
    assert [reason for _, reason in found.facts.unreadable] == ["there is no node 'p999'"] and found.facts.content["edges"] == 299


def test_another_graph_is_read_as_the_training_graph(tmp_path: Path) -> None:
    nodes = "id,x,label\n" + "".join(f"p{i},{i % 7},{'xy'[i % 2]}\n" for i in range(30))
    other = "id,x,label\n" + "".join(f"q{i},{i % 5},{'xy'[i % 2]}\n" for i in range(30))
    found = open_source(graph(tmp_path / "g", nodes, RING), test=graph(tmp_path / "h", other, RING.replace("p", "q")))
    assert found.test is not None and len(found.test) == 30 and found.test.modality is found.train.modality


def test_mistakes_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id\n1\n")
    (tmp_path / "empty").mkdir()
    for path, options, said in (
        (graph(tmp_path / "a", "name\nx\n", "a,b\nx,x\n"), {}, "has no column 'id' that says who a node is"),
        (graph(tmp_path / "b", "id\nx\nx\n", "a,b\nx,x\n"), {}, "'x' occurs more than once"),
        (graph(tmp_path / "c", "id\nx\n", "a\nx\n"), {}, "one column"),
        (tmp_path / "rows.csv", {"modality": "graph"}, "is a file of rows, and a graph is a folder"),
        (tmp_path / "empty", {"modality": "graph"}, "edges.csv"),
    ):
        with pytest.raises(UserError, match=said):
            open_source(path, **options)  # type: ignore[arg-type]
