"""The watch: what it sees in made-up figures, and what the loop does about it."""

from __future__ import annotations

import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from understudy.engine.loop import Collapsed, Loop
from understudy.engine.run import Run
from understudy.engine.watch import Watch, health
from understudy.settings import RunSettings, Settings, WatchSettings
from understudy.systems.base import Task

_spec = spec_from_file_location("training", Path(__file__).with_name("training.py"))
assert _spec and _spec.loader
training = module_from_spec(_spec)
_spec.loader.exec_module(training)


class Broken(training.Everything):
    """Its loss is multiplied by ``factor`` in the steps ``bad``, each of them ``times`` times at most."""

    bad: tuple[int, ...] = ()
    factor = math.nan
    times = 10**6
    seen: dict[int, int]

    def losses(self, labelled: Any) -> Any:
        terms = super().losses(labelled)
        if self.step in self.bad:
            self.seen[self.step] = self.seen.get(self.step, 0) + 1
            if self.seen[self.step] <= self.times:
                terms["stored"] = terms["stored"] * self.factor
        return terms


def broken(folder: Path, bad: tuple[int, ...], common: dict[str, Any] | None = None, **how: Any) -> tuple[Any, Run]:
    samples = training.pictures()
    settings = RunSettings().changed({"train.steps": 20, "train.batch": 16, "checkpoint.every": 3, "device": "cpu", **(common or {})})
    kind = type("Broken", (Broken,), {"bad": bad, "seen": {}, "card": Broken.card, **how})
    run = Run(folder)
    return kind(Settings(), Task(samples, training.models.build("tiny-vit", samples.modality, training.CLASSES, key=1), settings, run)), run


def events(run: Run) -> list[tuple[str, str]]:
    return [(line["event"], line["reason"]) for line in run.metrics() if "event" in line]


def test_a_nan_batch_is_skipped_and_said(tmp_path: Path) -> None:
    objective, run = broken(tmp_path, (7,))
    objective.run()
    ((event, reason),) = events(run)
    assert event == "skip" and "step 7" in reason
    assert training.facts(tmp_path)["skipped"] == [7]
    assert all(torch.isfinite(v).all() for v in training.weights(tmp_path).values() if v.is_floating_point())


def test_nan_that_stays_stops_the_run(tmp_path: Path) -> None:
    objective, _ = broken(tmp_path, tuple(range(7, 20)), {"watch.action": "stop"})
    with pytest.raises(Collapsed, match="last good checkpoint"):
        objective.run()
    assert all(torch.isfinite(v).all() for v in training.weights(tmp_path).values() if v.is_floating_point())


LONG = {"train.steps": 70, "checkpoint.every": 10, "optim.schedule": "constant", "optim.warmup": 0.0}


def test_spikes_roll_back_to_before_them_with_half_the_rate(tmp_path: Path) -> None:
    objective, run = broken(tmp_path, (55, 56, 57), {**LONG, "checkpoint.every": 1, "watch.every": 1}, factor=1e4, times=1)
    objective.run()
    ((event, reason),) = events(run)
    assert event == "rollback" and "3 times in a row at step 57" in reason
    rates = {line["step"]: line["lr"] for line in run.metrics() if "lr" in line}
    # The first spike is seen after its step, so what stood before step 55 is the last good checkpoint, although one is due after every step.
    assert {step for step, rate in rates.items() if rate == rates[0]} == set(range(55))
    assert all(rates[step] == pytest.approx(rates[0] / 2) for step in range(55, 70))


def test_spikes_that_come_back_stop_the_run_in_the_end(tmp_path: Path) -> None:
    objective, run = broken(tmp_path, (55, 56, 57), {**LONG, "watch.rollbacks": 2}, factor=1e4)
    with pytest.raises(Collapsed, match="last good checkpoint"):
        objective.run()
    assert [event for event, _ in events(run)][-1] == "stop"
    assert training.facts(tmp_path)["rate_scale"] == 0.25 and training.facts(tmp_path)["watch"]["rollbacks"] == 2


def test_the_decision_to_roll_back_survives_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, whole = broken(tmp_path / "whole", (55, 56, 57), LONG, factor=1e4, times=1)
    objective.run()
    killed, run = broken(tmp_path / "cut", (55, 56, 57), LONG, factor=1e4, times=1)
    answer = Loop.answer

    def answered(self: Loop, *arguments: Any) -> int:
        answer(self, *arguments)
        raise ConnectionAbortedError

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "answer", answered)
        with pytest.raises(ConnectionAbortedError):
            killed.run()
    again, run = broken(tmp_path / "cut", (), LONG)
    again.run()
    assert training.facts(tmp_path / "cut")["rate_scale"] == 0.5
    assert training.facts(tmp_path / "cut")["watch"]["rollbacks"] == 1
    assert training.same(training.weights(tmp_path / "whole"), training.weights(tmp_path / "cut"))


def watch(**settings: Any) -> Watch:
    return Watch(WatchSettings(**settings), steps=1000)


def after(figures: dict[str, float], looks: int = 3, start: int = 200) -> Any:
    one = watch()
    return [one.look_at_health(start + 20 * i, figures) for i in range(looks)][-1]


def test_uniform_targets_are_seen() -> None:
    uniform = torch.full((64, 100), 0.01) * (1 + 1e-3 * torch.randn(64, 100, generator=torch.Generator().manual_seed(0)))
    figures = health({"teacher": uniform / uniform.sum(1, keepdim=True)})
    alarm = after(figures)
    assert alarm.action == "rollback" and "uniform" in alarm.reason
    assert after(figures, looks=2) is None  # patience
    assert after(figures, start=0) is None  # in the first twentieth of the steps every teacher looks like that


def test_one_prototype_for_everything_is_seen() -> None:
    one = torch.full((64, 100), 1e-6)
    one[:, 17] = 1 - 99e-6
    assert "same prototype" in after(health({"teacher": one})).reason


def test_features_of_rank_one_are_seen() -> None:
    features = torch.randn(64, 1, generator=torch.Generator().manual_seed(0)) * torch.ones(64, 32)
    assert "rank 1.0" in after(health({"features": features})).reason


def test_sound_figures_raise_no_alarm() -> None:
    generator = torch.Generator().manual_seed(0)
    confident_and_spread = torch.nn.functional.one_hot(torch.arange(64) % 10, 10) * 0.98 + 0.002
    figures = health({"features": torch.randn(64, 32, generator=generator), "teacher": confident_and_spread, "student": confident_and_spread})
    assert figures["teacher_spread"] == pytest.approx(1.0, abs=0.01) and figures["teacher_entropy"] < 0.1
    assert after(figures, looks=50) is None


def test_a_collapsing_objective_is_rolled_back_and_then_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, run = broken(tmp_path, (), {"train.steps": 40, "watch.every": 2, "watch.rollbacks": 1})
    monkeypatch.setattr(type(objective), "after_step", lambda self: self.watched.update(teacher=torch.full((16, 50), 0.02)))
    with pytest.raises(Collapsed, match="uniform"):
        objective.run()
    assert [event for event, _ in events(run)] == ["rollback", "stop"]


def test_off_does_nothing() -> None:
    one = watch(action="off")
    assert [one.look_at_numbers(i, math.nan, 1.0) for i in range(10)] == [None] * 10
    assert one.calm


def test_a_large_common_part_is_no_collapse_and_no_difference_is() -> None:
    torch.manual_seed(0)
    apart = torch.randn(64, 16)
    assert health({"features": apart + 30})["rank"] > 10
    assert health({"features": 1e-3 * apart + 1})["rank"] == 1.0


def test_a_loss_close_to_zero_may_jump() -> None:
    watch = Watch(WatchSettings(), 1000)
    falling = [2.0 * 0.98**i + 1e-4 for i in range(600)]
    assert not any(watch.look_at_numbers(i, loss, 1.0) for i, loss in enumerate(falling + [2e-3] * 10))
    assert any(watch.look_at_numbers(i, 1.0, 1.0) for i in range(5))
