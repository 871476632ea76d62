"""Self-distillation in closed form: its limits are the paper's, and the labels' share is what validation asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import keyed, maths, models
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models.heads import MLP
from understudy.models.predict import features, predict
from understudy.systems.sd.sd_ground_truth_weighting import one_hot


def noisy(samples: Samples, share: float) -> Samples:
    return samples.relabelled(torch.where(keyed.bernoulli(keyed.fold(1, samples.keys), share), keyed.integers(keyed.fold(2, samples.keys), 10), samples.labels))


def ran(folder: Path, train: Samples, given: Samples | None = None, **settings: Any) -> Any:
    start = models.build("tiny-resnet", train.modality, train.classes, 0, widths=(8, 16, 64))
    system = made("sd-ground-truth-weighting", train, folder, start, settings)
    system.task = replace(system.task, validation=given)
    return system.run(), start


def test_labels_in_the_mix_stop_the_shrinking(tmp_path: Path) -> None:
    """After twenty generations: nearer to the truth than without labels, and than the first fit."""
    everything, test = hold_out(known.digits(), 0.5, 0)
    train, validation = hold_out(noisy(everything.take(torch.arange(300)), 0.4), 0.3, 0)

    def error(name: str, **settings: Any) -> float:
        outcome, _ = ran(tmp_path / name, train, validation, penalty=1.0, **settings)
        return float((predict(outcome.student, test) - one_hot(test)).square().sum(1).mean())

    weighted = error("weighted", generations=20)
    assert weighted < error("none", generations=100, label_share=0.0) - 0.01
    assert weighted < error("first", generations=1) - 0.01


def test_a_constant_share_ends_at_one_ridge_regression_of_a_larger_penalty(tmp_path: Path) -> None:
    train = known.digits().take(torch.arange(200))
    outcome, start = ran(tmp_path, train, generations=60, label_share=0.4, penalty=2.0)
    x = features(start, train)
    weight, bias = maths.ridge(x, one_hot(train), 2.0 * float(x.var(0).mean()) / 0.4)
    torch.testing.assert_close(outcome.student.head.weight, weight.float(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(outcome.student.head.bias, bias.float(), atol=1e-4, rtol=1e-3)


def test_the_share_is_the_best_on_validation(tmp_path: Path) -> None:
    train, validation = hold_out(noisy(known.digits().take(torch.arange(300)), 0.4), 0.3, 0)

    def error(name: str, share: float | None) -> float:
        outcome, _ = ran(tmp_path / name, train, validation, generations=2, label_share=share)
        return float((predict(outcome.student, validation) - one_hot(validation)).square().sum())

    chosen = ran(tmp_path / "chosen", train, validation, generations=2)[0].facts["label_shares"][1]
    best = error("best", None)
    assert best == pytest.approx(error("same", chosen), rel=1e-5)
    assert best < error("less", chosen - 0.2) and best < error("more", chosen + 0.2)


def test_without_a_validation_set_a_part_of_the_labels_is_held_out(tmp_path: Path) -> None:
    train = noisy(known.digits().take(torch.arange(300)), 0.4)
    shares = [ran(tmp_path / str(v), train, generations=2, validation=v)[0].facts["label_shares"][1] for v in (0.2, 0.5)]
    assert shares[0] != shares[1]


def test_the_backbone_stays(tmp_path: Path) -> None:
    outcome, start = ran(tmp_path, known.digits().take(torch.arange(100)), generations=3)
    assert all(torch.equal(a, b) for a, b in zip(outcome.student.backbone.parameters(), start.backbone.parameters(), strict=True))


def test_a_neck_is_refused(tmp_path: Path) -> None:
    data = known.digits()
    start = models.build("tiny-resnet", data.modality, data.classes, 0, widths=(8, 16, 32))
    necked = start.with_neck([32, 16], torch.nn.Sequential(*list(MLP([32, 16, 4], 0))[:3]))
    with pytest.raises(UserError, match="neck"):
        made("sd-ground-truth-weighting", data, tmp_path, necked)
