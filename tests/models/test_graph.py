"""The graph network against the formula of the paper, on a whole graph at once in float64."""

from __future__ import annotations

import numpy as np
import torch

from understudy import keyed, models
from understudy.data.modalities.graph import Graph, GraphModality, Neighbourhoods
from understudy.models.reconstruct import decoder_for


def graph(nodes: int = 30, edges: int = 60, fans: tuple[int, int] = (12, 12)) -> tuple[GraphModality, Graph, torch.Tensor]:
    modality = GraphModality(codes=5, fans=fans)
    ids = [str(i) for i in range(nodes)]
    pairs = keyed.integers(7, max(nodes - 1, 10), (edges, 2))
    return modality, Graph.of(modality.features({}, ids), pairs, keyed.of_texts(ids), max(fans)), pairs


def test_it_is_the_network_of_the_paper_where_every_neighbour_is_seen() -> None:
    modality, whole, pairs = graph()
    assert int(whole.degrees.max()) <= 12 and int(whole.degrees.min()) == 0
    student = models.build("tiny-gcn", modality, ("a", "b"), 3)
    torch.nn.init.normal_(student.backbone.enter.bias)  # type: ignore[union-attr, arg-type]
    raw = Neighbourhoods(whole, torch.arange(30), modality.fans).raw(torch.arange(30))
    ours = student(modality.view(raw, "plain", torch.arange(30)).inputs).detach().double().numpy()
    a = np.zeros((30, 30))
    for i, j in pairs.tolist():
        a[i, j] = a[j, i] = 1.0
    np.fill_diagonal(a, 1.0)
    d = np.diag(a.sum(1) ** -0.5)
    a = d @ a @ d
    w0, b0, w1, b1 = (p.detach().double().numpy() for p in (*student.backbone.enter.parameters(), *student.head.parameters()))  # type: ignore[union-attr]
    hidden = np.maximum(a @ whole.features.double().numpy() @ w0.T + b0, 0.0)
    np.testing.assert_allclose(ours, a @ hidden @ w1.T + b1, atol=1e-5)


def test_nothing_of_a_hidden_node_reaches_any_output() -> None:
    modality, whole, _ = graph()
    backbone = models.build("tiny-gcn", modality, (), 3).backbone
    raw = Neighbourhoods(whole, torch.arange(30), modality.fans).raw(torch.arange(30))
    view = modality.view(raw, "masked", torch.as_tensor(keyed.fold(1, torch.arange(30))), ratio=0.4)
    before = backbone(view.inputs, view.masked)
    other = {**view.inputs, "features": view.inputs["features"].clone()}
    for row in range(30):
        for node in view.inputs["node"][row, :13][view.masked[row]]:  # type: ignore[index]
            other["features"][row, view.inputs["node"][row] == node] = 9.0
    after = backbone(other, view.masked)
    assert torch.equal(before.pooled, after.pooled) and torch.equal(before.tokens, after.tokens)
    assert not torch.equal(backbone(other).pooled, after.pooled)
    loss = decoder_for(backbone, 1)(before, view)
    assert loss.shape == (30,) and bool(loss.isfinite().all())


def test_with_fewer_neighbours_than_there_are_those_seen_count_for_all() -> None:
    modality, whole, _ = graph(10, 400, (4, 9))
    assert int(whole.degrees.min()) == 9
    ones = Graph(torch.ones(10, 5), whole.neighbours, whole.degrees)
    features = models.build("tiny-gcn", modality, (), 3).features(
        modality.view(Neighbourhoods(ones, torch.arange(10), (4, 9)).raw(torch.arange(10)), "plain", torch.arange(10)).inputs
    )
    torch.testing.assert_close(features.pooled, features.pooled[:1].expand(10, -1))
    full = Neighbourhoods(ones, torch.arange(10), (9, 9)).raw(torch.arange(10))
    other = models.build("tiny-gcn", GraphModality(codes=5, fans=(9, 9)), (), 3)
    torch.testing.assert_close(other.features(GraphModality(codes=5, fans=(9, 9)).view(full, "plain", torch.arange(10)).inputs).pooled, features.pooled)
