"""The transformer over clouds: order does not matter, hidden groups stay hidden."""

from __future__ import annotations

import torch

from understudy import keyed, models
from understudy.data.modalities import PointsModality


def test_groups_are_the_nearest_points_and_order_does_not_matter() -> None:
    modality = PointsModality(64)
    student = models.build("tiny-points", modality, ("a", "b"), 3)
    points = modality.examples(3)["points"]
    centres, groups = student.backbone.grouped(points)  # type: ignore[operator]
    assert centres.shape == (3, 4, 3) and groups.shape == (3, 4, 32, 3)
    distance = (points[1].double() - centres[1, 2].double()).norm(dim=1).sort().values[:32]
    torch.testing.assert_close(groups[1, 2].double().norm(dim=1).sort().values, distance, atol=1e-6, rtol=1e-5)
    shuffled = points[:, keyed.permutation(5, 64)]
    torch.testing.assert_close(student({"points": shuffled}), student({"points": points}), atol=1e-5, rtol=1e-5)


def test_dropping_is_encoding_the_rest_alone() -> None:
    modality = PointsModality(64)
    backbone = models.build("tiny-points", modality, (), 3).backbone
    view = modality.view(modality.examples(5), "masked", torch.as_tensor(keyed.fold(1, torch.arange(5))), ratio=0.5, patch=16)
    dropped = backbone(view.inputs, view.masked, drop=True)
    assert dropped.tokens.shape == (5, 2, backbone.width)
    content, places, _ = backbone.embed(view.inputs)  # type: ignore[operator]
    x = (content + places)[~view.masked].view(5, 2, -1)  # type: ignore[operator, index]
    for block in backbone.blocks:  # type: ignore[union-attr]
        x = block(x)
    torch.testing.assert_close(dropped.tokens, backbone.norm(x))  # type: ignore[operator]
