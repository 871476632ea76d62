"""Graphs: what a node sees, that views alter it as they say, and that what is hidden is hidden everywhere."""

from __future__ import annotations

import json

import pytest
import torch

from understudy import keyed
from understudy.data.modalities import GraphModality, restore
from understudy.data.modalities.graph import Graph, Neighbourhoods, Node
from understudy.data.modalities.table import TableModality
from understudy.errors import UserError
from understudy.models.graph import occurring

IDS = [f"n{i}" for i in range(40)]
EDGES = torch.cat([keyed.integers(3, 40, (90, 2)), torch.tensor([[0, 0], [1, 2], [2, 1], [1, 2]])])
MODALITY = GraphModality(codes=6, fans=(5, 4))
GRAPH = Graph.of(MODALITY.features({}, IDS), EDGES, keyed.of_texts(IDS), 5)
RAW = Neighbourhoods(GRAPH, torch.arange(40), MODALITY.fans).raw(torch.arange(40))
KEYS = torch.as_tensor(keyed.fold(3, torch.arange(40)))


def neighbours() -> list[set[int]]:
    near: list[set[int]] = [set() for _ in IDS]
    for a, b in EDGES.tolist():
        if a != b:
            near[a].add(b)
            near[b].add(a)
    return near


def test_a_node_sees_its_neighbours_and_theirs() -> None:
    near = neighbours()
    assert GRAPH.degrees.tolist() == [len(one) for one in near]
    for i, row in enumerate(RAW["node"].tolist()):
        first, second = row[1:6], row[6:]
        seen = [n for n in first if n >= 0]
        assert row[0] == i and set(seen) <= near[i] and len(set(seen)) == len(seen) == min(5, len(near[i]))
        for j, n in enumerate(first):
            theirs = [m for m in second[4 * j : 4 * j + 4] if m >= 0]
            assert theirs == [] if n < 0 else set(theirs) <= near[n] and len(theirs) == min(4, len(near[n]))
    there = RAW["node"] >= 0
    assert torch.equal(RAW["features"][there], GRAPH.features[RAW["node"][there]]) and not RAW["features"][~there].any()
    assert torch.equal(RAW["degree"][there], GRAPH.degrees[RAW["node"][there]])


def test_one_node_is_encoded_as_in_a_batch() -> None:
    raw = MODALITY.collate([MODALITY.encode(Node(GRAPH, i)) for i in range(40)])
    assert all(torch.equal(raw[name], RAW[name]) for name in RAW)


def test_features_are_numbers_names_and_otherwise_codes_of_the_id() -> None:
    columns = {"age": [1.0, None, 3.0], "town": ["A", "B", None]}
    modality = GraphModality(TableModality.fit(columns, {"age": "number", "town": "category"}))
    features = modality.features(columns, ["x", "y", "z"])
    assert features.shape == (3, modality.width) == (3, 3) and features[1, 0] == 0 and features[:, 1:].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert restore(json.loads(json.dumps(modality.signature()))).signature() == modality.signature()
    codes = MODALITY.features({}, ["b", "a"])
    assert torch.equal(codes[1], MODALITY.features({}, ["a"])[0]) and not torch.equal(codes[0], codes[1])


def test_views_take_neighbours_and_features_away_and_leave_the_node() -> None:
    plain = MODALITY.view(RAW, "plain", KEYS).inputs
    lost = {}
    for name in ("weak", "strong"):
        inputs = MODALITY.view(RAW, name, KEYS).inputs
        assert inputs["there"][:, 0].all() and not (inputs["there"] & ~plain["there"]).any()
        parents = inputs["there"][:, 1:6].repeat_interleave(4, 1)
        assert not (inputs["there"][:, 6:] & ~parents).any()
        lost[name] = 1 - float(inputs["there"][:, 1:6].sum() / plain["there"][:, 1:6].sum())
        gone = (inputs["features"] == 0).all(1)
        assert torch.equal(inputs["features"], plain["features"].masked_fill(gone.unsqueeze(1), 0.0))
    assert 0.02 < lost["weak"] < 0.2 and 0.3 < lost["strong"] < 0.5


def test_a_hidden_node_is_hidden_wherever_it_occurs() -> None:
    view = MODALITY.view(RAW, "masked", KEYS, ratio=0.5)
    assert view.masked is not None and view.masked.shape == (40, 6)
    hidden = occurring(view.masked, view.inputs["node"])
    for node, masked, where in zip(RAW["node"].tolist(), view.masked.tolist(), hidden.tolist(), strict=True):
        names = {n for n, m in zip(node, masked, strict=False) if m}
        assert [n in names for n in node] == where


def test_mistakes_are_said() -> None:
    with pytest.raises(UserError, match="nodes have no view 'wild'"):
        MODALITY.view(RAW, "wild", KEYS)
    with pytest.raises(UserError, match="at least one neighbour"):
        GraphModality(fans=(0, 3))


@pytest.mark.parametrize("name", MODALITY.views)
def test_a_view_is_a_function_of_sample_and_key(name: str) -> None:
    whole = MODALITY.view(RAW, name, KEYS)
    for selection in (torch.tensor([4]), torch.tensor([6, 0, 31])):
        part = MODALITY.view({k: v[selection] for k, v in RAW.items()}, name, KEYS[selection])
        assert all(torch.equal(part.inputs[k], whole.inputs[k][selection]) for k in part.inputs)
        assert part.masked is None or torch.equal(part.masked, whole.masked[selection])  # type: ignore[index]
    other = MODALITY.view(RAW, name, keyed.fold(KEYS, 1))  # type: ignore[arg-type]
    changed = any(not torch.equal(other.inputs[k], whole.inputs[k]) for k in whole.inputs) or (
        whole.masked is not None and not torch.equal(other.masked, whole.masked)
    )  # type: ignore[arg-type]
    assert changed == (name != "plain")
