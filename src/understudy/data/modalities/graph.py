"""Graphs: a sample is a node with its neighbours and theirs, so that a batch of nodes is a batch like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.masking import hide
from understudy.data.modalities.table import TableModality
from understudy.data.samples import Inputs, View
from understudy.errors import UserError

CODES = 64
"""Numbers that stand for a node of a graph whose nodes have no features."""


@dataclass(frozen=True)
class Graph:
    """Nodes with features and undirected edges."""

    features: Tensor
    """float32 ``[N, F]``."""
    neighbours: Tensor
    """int64 ``[N, K]``: up to K neighbours of every node, in an order drawn from its key; -1 fills up."""
    degrees: Tensor
    """int64 ``[N]``: how many neighbours there are."""

    @classmethod
    def of(cls, features: Tensor, edges: Tensor, keys: Tensor, most: int) -> Graph:
        """From pairs of nodes int64 ``[E, 2]``, in either direction and however often; ``keys`` int64 ``[N]`` draw ``most`` neighbours where a node has more."""
        count = len(features)
        both = torch.cat([edges, edges.flip(1)])
        both = torch.unique(both[both[:, 0] != both[:, 1]], dim=0)
        degrees = torch.bincount(both[:, 0], minlength=count)
        draws = keyed.bits(keyed.fold(keys[both[:, 0]], keys[both[:, 1]])) if len(both) else torch.empty(0, dtype=torch.int64)
        both = both[draws.argsort(stable=True)]
        both = both[both[:, 0].argsort(stable=True)]
        place = torch.arange(len(both)) - (degrees.cumsum(0) - degrees)[both[:, 0]]
        neighbours = torch.full((count, most), -1)
        kept = place < most
        neighbours[both[kept, 0], place[kept]] = both[kept, 1]
        return cls(features, neighbours, degrees)

    def around(self, nodes: Tensor, fans: tuple[int, int]) -> Inputs:
        """The raw batch of ``nodes`` int64 ``[B]``, as ``GraphModality.collate`` has it."""
        near = self.neighbours[nodes][:, : fans[0]]
        far = self.neighbours[near.clamp_min(0)][:, :, : fans[1]].masked_fill(near.unsqueeze(2) < 0, -1)
        node = torch.cat([nodes.unsqueeze(1), near, far.flatten(1)], 1)
        nobody, index = node < 0, node.clamp_min(0)
        return {
            "node": node,
            "features": self.features[index].masked_fill(nobody.unsqueeze(2), 0.0),
            "degree": self.degrees[index].masked_fill(nobody, 0),
        }


@dataclass(frozen=True)
class Node:
    """One node of a graph."""

    graph: Graph
    number: int


class GraphModality:
    """A node, at most ``fans[0]`` of its neighbours and at most ``fans[1]`` of the neighbours of each (GraphSAGE, 1706.02216); all of them where there are no more.

    Positions are the node itself, its neighbours, then theirs: 1 + fans[0] (1 + fans[1]). ``columns`` says how features are read from rows; where it is None,
    a node has ``codes`` numbers, normally distributed and drawn from its id, by which a model can tell the nodes of one graph apart.
    """

    name = "graph"
    noun = "nodes"
    views: tuple[str, ...] = ("plain", "weak", "strong", "masked")

    def __init__(self, columns: TableModality | None = None, codes: int = CODES, fans: tuple[int, int] = (16, 16)):
        if min(fans) < 1:
            raise UserError(f"a node is seen with at least one neighbour, got {fans[0]} and {fans[1]}: choose a larger size")
        self.columns, self.codes, self.fans = columns, codes, fans

    @property
    def width(self) -> int:
        """F, the numbers that a node has: a column of names is one for every name."""
        return self.codes if self.columns is None else len(self.columns.numbers) + sum(len(c.vocabulary) for c in self.columns.categories)

    def features(self, columns: dict[str, Any], ids: Sequence[str]) -> Tensor:
        """float32 ``[N, F]`` of nodes: standardised numbers, 0 where one is missing, then a 1 among zeros for every name."""
        if self.columns is None:
            return keyed.normal(keyed.fold(keyed.of_texts(ids), "code"), (self.codes,))
        read = self.columns.encode_columns(columns)
        names = [torch.nn.functional.one_hot(read["categories"][:, i], len(c.vocabulary) + 1)[:, 1:].float() for i, c in enumerate(self.columns.categories)]
        return torch.cat([read["numbers"].nan_to_num(0.0), *names], 1)

    def signature(self) -> dict[str, Any]:
        return {"name": self.name, "columns": None if self.columns is None else self.columns.signature(), "codes": self.codes, "fans": list(self.fans)}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None = None) -> GraphModality:
        columns = signature["columns"] and TableModality.restore(signature["columns"])
        return cls(columns, signature["codes"], (signature["fans"][0], signature["fans"][1]))

    def shape(self) -> dict[str, Any]:
        return {"features": self.width, "fans": list(self.fans)}

    def examples(self, count: int) -> Inputs:
        keys = torch.as_tensor(keyed.fold(keyed.fold(0, "example"), torch.arange(12)))
        ring = torch.arange(12)
        edges = torch.cat([torch.stack([ring, (ring + step) % 12], 1) for step in (1, 3)])
        return Graph.of(keyed.normal(keys, (self.width,)), edges, keys, max(self.fans)).around(torch.arange(count) % 12, self.fans)

    def encode(self, original: Node) -> Inputs:
        """One node: ``{"node": int64 [P], -1 = nobody, "features": float32 [P, F], "degree": int64 [P]}``."""
        return {name: value[0] for name, value in original.graph.around(torch.tensor([original.number]), self.fans).items()}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {name: torch.stack([e[name] for e in encoded]) for name in ("node", "features", "degree")}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"features": float32 [B, P, F], "there": bool [B, P], "degree": int64 [B, P]}``, and of ``masked`` also ``"node": int64 [B, P]``, who it is.

        ``plain``; ``weak``: a tenth of the neighbours gone and a tenth of the features 0, the same ones for all nodes of a sample; ``strong``: 0.4 and 0.3, as
        GRACE has them (2006.04131, section 3.2); ``masked``: ``ratio`` of the node and its neighbours hidden in view ``base``, wherever in the sample they occur.
        """
        match name:
            case "masked":
                return self._masked(raw, keys, **options)
            case "plain":
                there, features = raw["node"] >= 0, raw["features"]
            case "weak":
                there, features = self._thinned(raw, keys, 0.1, 0.1, **options)
            case "strong":
                there, features = self._thinned(raw, keys, 0.4, 0.3, **options)
            case _:
                raise UserError(f"nodes have no view '{name}': choose one of {', '.join(self.views)}")
        return View(name, {"features": features, "there": there, "degree": raw["degree"]}, keys)

    def _thinned(self, raw: Inputs, keys: Tensor, edges: float, features: float) -> tuple[Tensor, Tensor]:
        first, second = self.fans
        there = (raw["node"] >= 0) & ~keyed.bernoulli(keyed.fold(keys, "edges"), edges, raw["node"].shape[1:])
        there[:, 0] = True
        there[:, 1 + first :] &= there[:, 1 : 1 + first].repeat_interleave(second, 1)  # without a neighbour, its own are out of reach
        gone = keyed.bernoulli(keyed.fold(keys, "features"), features, (raw["features"].shape[2],))
        return there, raw["features"].masked_fill(gone.unsqueeze(1), 0.0)

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.3, base: str = "plain", **options: Any) -> View:
        inputs = {**self.view(raw, base, keyed.fold(keys, "base"), **options).inputs, "node": raw["node"]}  # type: ignore[arg-type]
        return View("masked", inputs, keys, hide(keyed.fold(keys, "mask"), inputs["there"][:, : 1 + self.fans[0]], ratio))  # type: ignore[arg-type]


class Neighbourhoods:
    """Some nodes of a graph, looked up when they are asked for."""

    def __init__(self, graph: Graph, nodes: Tensor, fans: tuple[int, int]):
        self.graph, self.nodes, self.fans = graph, nodes, fans

    def __len__(self) -> int:
        return len(self.nodes)

    def raw(self, indices: Tensor) -> Inputs:
        """The raw batch of these positions, int64 ``[B]``."""
        return self.graph.around(self.nodes[indices], self.fans)

    def original(self, index: int) -> Node:
        """The node, in its graph."""
        return Node(self.graph, int(self.nodes[index]))
