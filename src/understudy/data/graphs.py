"""A folder that is a graph: ``nodes.csv`` with an id, perhaps a label and features, and ``edges.csv`` with two ids a row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from understudy import keyed
from understudy.data import tables_on_disk
from understudy.data.folder import shown
from understudy.data.modalities.graph import Graph, GraphModality, Neighbourhoods
from understudy.data.modalities.table import TableModality
from understudy.data.quarantine import Quarantine
from understudy.data.rows import Table, label_texts
from understudy.data.samples import Encoded, Modality
from understudy.errors import UserError

FORM = "it holds nodes.csv, with a column id, perhaps label, and features, and edges.csv, with the ids of two nodes in its first two columns"
LARGEST_FAN = 16
"""Neighbours of a node, and of each of those, that the built-in student looks at: with more it needs longer than minutes on two CPU cores."""


def is_graph(path: Path) -> bool:
    """Whether a folder holds a graph."""
    return _part(path, "nodes") is not None and _part(path, "edges") is not None


def read_graph(path: Path, id_column: str | None, label_column: str, quarantine: Quarantine) -> tuple[list[str], list[str | None], Nodes, list[str]]:
    """Ids, labels, content and notes of the folder ``path``. An edge to a node that is not there goes to quarantine."""
    nodes_path, edges_path = _part(path, "nodes"), _part(path, "edges")
    assert nodes_path is not None and edges_path is not None, "is_graph said so"
    table = tables_on_disk.read_file(nodes_path, quarantine).table
    name = id_column or "id"
    if name not in table.column_names:
        raise UserError(f"{shown(nodes_path)} has no column {name!r} that says who a node is: it has {', '.join(map(repr, table.column_names[:12]))}")
    ids = [str(value) for value in table.column(name).to_pylist()]
    twice = next((one for one, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"column {name!r} of {shown(nodes_path)} does not tell nodes apart: {twice!r} occurs more than once")
    edges = _edges(edges_path, {one: i for i, one in enumerate(ids)}, quarantine)
    features = table.drop_columns([column for column in (name, label_column) if column in table.column_names])
    return ids, label_texts(table, label_column, nodes_path), Nodes(features, ids, edges, nodes_path), []


def _part(path: Path, name: str) -> Path | None:
    return next((path / f"{name}{suffix}" for suffix in (".csv", ".tsv", ".parquet", ".jsonl") if (path / f"{name}{suffix}").is_file()), None)


def _edges(path: Path, numbers: dict[str, int], quarantine: Quarantine) -> Tensor:
    """int64 ``[E, 2]``."""
    rows = tables_on_disk.read_file(path, quarantine)
    if rows.table.num_columns < 2:
        raise UserError(f"{shown(path)} has one column: an edge is a row with the ids of two nodes")
    pairs, first, second = [], *(rows.table.column(i).to_pylist() for i in range(2))
    for number, a, b in zip(rows.numbers, first, second, strict=True):
        unknown = [str(one) for one in (a, b) if str(one) not in numbers]
        if unknown:
            quarantine.add(f"{shown(path)} row {number}", f"there is no node {unknown[0]!r}")
        else:
            pairs.append((numbers[str(a)], numbers[str(b)]))
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


class Nodes:
    """The nodes of a graph."""

    kind = "graph"

    def __init__(self, features: pa.Table, ids: Sequence[str], edges: Tensor, path: Path):
        self.ids, self.edges, self.path = list(ids), edges, path
        self.table = Table(features, path)
        self.degrees = torch.bincount(edges.flatten(), minlength=len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def look(self) -> None:
        self.table.look()

    def fit(self, size: int | None, seed: int) -> Modality:
        """Features as of tables, codes where there are none; of most nodes every neighbour is seen, at most ``size`` (``LARGEST_FAN``) of each."""
        columns = self.table.fit(None, seed) if self.table.kinds else None
        assert columns is None or isinstance(columns, TableModality)
        fan = min(size or LARGEST_FAN, max(1, int(self.degrees.double().quantile(0.95))))
        return GraphModality(columns, fans=(fan, fan))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        """Every node can be read; a feature that is none counts as missing. A node is a copy where its features and the ids of its neighbours are another's."""
        assert isinstance(modality, GraphModality)
        columns = {} if modality.columns is None else self.table.columns(modality.columns)
        features = modality.features(columns, self.ids)
        graph = Graph.of(features, self.edges, keyed.of_texts(self.ids), max(modality.fans))
        around: list[set[int]] = [set() for _ in self.ids]
        for a, b in self.edges.tolist():
            around[a].add(b)
            around[b].add(a)
        digests = [
            hashlib.blake2b(row.numpy().tobytes() + "\0".join(sorted(self.ids[n] for n in near)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            for row, near in zip(features, around, strict=True)
        ]
        return Neighbourhoods(graph, torch.arange(len(self)), modality.fans), list(range(len(self))), digests

    def facts(self) -> dict[str, object]:
        return {"edges": len(self.edges), **self.table.facts()}

    def describe(self) -> list[str]:
        degrees = self.degrees.double()
        said = [
            f"{len(self.edges):,} edges: half of the nodes have at most {int(degrees.median())}, the most {int(degrees.max())}, {int((degrees == 0).sum()):,} have none."
        ]
        if not self.table.kinds:
            said.append("They have no features: each is known by a code of its own, and what is learned holds for this graph alone.")
        return said + self.table.describe()
