"""Multi-view MAE: what is hidden stays hidden, both decoders learn, and the features tell shapes apart."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.systems.training import made
from understudy import evaluate, keyed, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.modalities import PointsModality
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out


def shapes(each: int = 80, count: int = 128) -> Samples:
    """Boxes, rings, crosses and shells of all proportions."""
    kind, clouds = PointsModality(count), []
    for y in range(4):
        for i in range(each):
            u = keyed.uniform(keyed.of_text(f"{y}/{i}"), (count, 3), -1.0, 1.0)
            if y == 0:
                axis = torch.arange(count) % 3
                u[torch.arange(count), axis] = u[torch.arange(count), axis].sign()
            elif y == 1:
                u[:, [0, 2]] = torch.nn.functional.normalize(u[:, [0, 2]], dim=1)
                u[:, 1] *= 0.2
            elif y == 2:
                keep = torch.nn.functional.one_hot(torch.arange(count) % 3, 3)
                u = u * (0.12 + 0.88 * keep)
            else:
                u = torch.nn.functional.normalize(u, dim=1)
                u[:, 1] = u[:, 1].abs()
            clouds.append(u * keyed.uniform(keyed.of_text(f"size/{y}/{i}"), (1, 3), 0.5, 1.0))
    raw = torch.stack([c - c.mean(0) for c in clouds])
    raw = raw / raw.norm(dim=2).amax(1)[:, None, None]
    return Samples(
        kind, InMemory({"points": raw}), tuple(f"{i}" for i in range(4 * each)), torch.arange(4).repeat_interleave(each), ("box", "ring", "cross", "shell")
    )


def test_only_what_is_left_is_encoded_and_the_whole_is_asked_for(tmp_path: Path) -> None:
    samples = shapes(4)
    system = made("multiview-mae", samples, tmp_path, "tiny-points", {"poses": 2})
    batch = samples.batch(torch.arange(16))
    terms = system.losses(batch)
    assert {name: term.shape for name, term in terms.items()} == {"points": (16,), "depth": (16,)}
    sum(term.mean() for term in terms.values()).backward()
    assert all(
        p.grad is not None
        for name, p in system.named_parameters()
        if "student.mask" not in name and ".head." not in name and not name.endswith("backbone.mask")
    )


def test_its_features_tell_shapes_apart() -> None:
    train, test = hold_out(shapes(), 0.4, 7)
    few = known.few_labels(train, 3, 7).labelled
    start = models.build("tiny-points", train.modality, (), 7)
    student = learn("multiview-mae", start, train, seed=7, steps=150, train__batch=32, optim__lr=3e-3).student
    before, after = (evaluate.linear_probe(evaluate.features(s, few), few.labels, evaluate.features(s, test), test.labels).value for s in (start, student))
    assert after > min(before + 0.03, 0.97), (before, after)
