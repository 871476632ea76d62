"""Which samples grow a set of labels, against plain loops in float64."""

from __future__ import annotations

import numpy as np
import torch

from understudy import keyed, maths


def test_the_most_confident_of_every_class() -> None:
    confidence, labels = keyed.uniform(3, (50,)).double(), keyed.integers(4, 4, (50,))
    labels[labels == 3] = 0
    chosen = maths.select_most(confidence, labels, 4, 5)
    for c in range(4):
        own = [i for i in range(50) if labels[i] == c]
        assert sorted(i for i in own if chosen[i]) == sorted(sorted(own, key=lambda i: -float(confidence[i]))[:5])
    assert maths.select_most(confidence, labels, 4, 100).all()


def test_a_cluster_belongs_to_the_nearest_mean_that_is_there() -> None:
    centroids, means = keyed.normal(1, (9, 3)).double(), keyed.normal(2, (4, 3)).double()
    there = torch.tensor([True, False, True, True])
    distance = ((centroids.numpy()[:, None] - means.numpy()[None]) ** 2).sum(-1)
    distance[:, 1] = np.inf
    assert maths.aligned(centroids, means, there).tolist() == distance.argmin(1).tolist()
