"""The queue keeps the newest, in a circle."""

from __future__ import annotations

import torch

from understudy.models.queue import Queue


def numbered(low: int, high: int) -> torch.Tensor:
    return torch.arange(low, high).float().unsqueeze(1).expand(-1, 2)


def test_the_oldest_make_room() -> None:
    queue = Queue(5, 2)
    assert not queue.filled.any()
    queue.push(numbered(0, 3), torch.arange(3), torch.arange(3) + 10)
    assert queue.filled.tolist() == [True] * 3 + [False] * 2 and queue.labels.tolist() == [0, 1, 2, -1, -1]
    queue.push(numbered(3, 6), torch.arange(3, 6), torch.arange(3, 6) + 10)
    assert queue.features[:, 0].tolist() == [5, 1, 2, 3, 4] and queue.labels.tolist() == [5, 1, 2, 3, 4] and queue.keys.tolist() == [15, 11, 12, 13, 14]


def test_of_more_than_fit_the_last_stay() -> None:
    queue = Queue(4, 2)
    queue.push(numbered(0, 7))
    assert sorted(queue.features[:, 0].tolist()) == [3, 4, 5, 6] and queue.filled.all()
    queue.push(numbered(7, 8))
    assert sorted(queue.features[:, 0].tolist()) == [4, 5, 6, 7]


def test_it_is_checkpointed() -> None:
    queue, other = Queue(4, 2), Queue(4, 2)
    queue.push(numbered(0, 3))
    other.load_state_dict(queue.state_dict())
    for each in (queue, other):
        each.push(numbered(3, 5))
    assert torch.equal(queue.features, other.features)
