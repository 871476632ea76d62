"""The watch: looks at loss, gradient, features and target entropy while a run goes, acts, and says why in one sentence.

Three actions: *skip* the batch that broke the step, *roll back* to the last good checkpoint with a lower rate, *stop*.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from understudy import maths
from understudy.settings import WatchSettings

Action = Literal["skip", "rollback", "stop"]


_STANDS_OUT = 0.2
"""Share of the first losses that a spike must exceed."""


@dataclass(frozen=True)
class Alarm:
    """What the watch saw and what has to be done."""

    action: Action
    reason: str
    step: int


def health(seen: dict[str, Tensor]) -> dict[str, float]:
    """Figures of a step's ``features`` ``[B, D]`` and target distributions ``teacher`` and ``student`` ``[B, K]``, where the objective shows them.

    ``rank`` is RankMe (2210.02885) of the features less their mean, since a large common part is no collapse; 1 where they differ by less than a hundredth of
    their size; ``*_entropy`` is the mean entropy of the single distributions and ``*_spread`` the entropy of their mean, both as a
    share of ln K: a uniform collapse drives the first to 1, a collapse to one prototype the second to 0 (2304.07193, issue threads 143, 272, 407).
    """
    figures: dict[str, float] = {}
    if "features" in seen:
        features = seen["features"].float()
        apart = features - features.mean(0)
        figures["rank"] = float(maths.rankme(apart)) if apart.norm() > 0.01 * features.norm() else 1.0
        figures["rank_limit"] = float(min(seen["features"].shape))
    for who in ("teacher", "student"):
        if who in seen:
            p = seen[who].float()
            figures[f"{who}_entropy"] = float(maths.entropy(p).mean()) / math.log(p.shape[-1])
            figures[f"{who}_spread"] = float(maths.entropy(p.mean(0))) / math.log(p.shape[-1])
    return figures


class Watch:
    """Keeps the recent past of one run."""

    def __init__(self, settings: WatchSettings, steps: int):
        self.settings = settings
        self.steps = steps
        self.losses: deque[float] = deque(maxlen=50)
        self.start: float | None = None
        """Median of the first 50 losses."""
        self.spikes = 0
        self.collapsed = 0
        self.rollbacks = 0
        self.skipped_in_a_row = 0

    def _act(self, natural: Action, reason: str, step: int) -> Alarm | None:
        chosen = self.settings.action
        if chosen == "off":
            return None
        action: Action = natural if chosen == "auto" else chosen
        if action == "rollback" and chosen == "auto" and self.rollbacks >= self.settings.rollbacks:
            action = "stop"
        return Alarm(action, reason, step)

    def look_at_numbers(self, step: int, loss: float, gradient: float) -> Alarm | None:
        """NaN, infinity and spikes: once per step, or for a window of steps at once where asking sooner would stall the device."""
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            self.skipped_in_a_row += 1
            what = "the loss" if not math.isfinite(loss) else "the gradient"
            if self.skipped_in_a_row >= self.settings.patience:
                return self._act("rollback", f"{what} was not finite {self.skipped_in_a_row} times in a row, last at step {step}", step)
            return self._act("skip", f"{what} was not finite at step {step}", step)
        self.skipped_in_a_row = 0
        usual = median(self.losses) if len(self.losses) == self.losses.maxlen else None
        self.losses.append(loss)
        if usual is not None and self.start is None:
            self.start = usual
        # Close to zero a loss jumps by factors without meaning anything: a spike also brings back a good part of what was there at the start.
        if usual is not None and usual > 0 and loss > max(self.settings.spike * usual, _STANDS_OUT * (self.start or 0.0)):
            self.spikes += 1
            if self.spikes >= self.settings.patience:
                self.spikes = 0
                return self._act(
                    "rollback", f"the loss was {loss / usual:.1f} times its usual value {self.settings.patience} times in a row at step {step}", step
                )
        else:
            self.spikes = 0
        return None

    def look_at_health(self, step: int, figures: dict[str, float]) -> Alarm | None:
        """Collapse: features of rank one, targets that are all uniform, or one prototype for everything."""
        signs = []
        if figures.get("rank", math.inf) < 1.5 and figures.get("rank_limit", 0) > 2:
            signs.append(f"the features collapsed to rank {figures['rank']:.2f}")
        if figures.get("teacher_entropy", 0.0) > 0.999:
            signs.append("the teacher's targets became uniform")
        if figures.get("teacher_spread", 1.0) < 0.02:
            signs.append("the teacher gives everything the same prototype")
        if not signs or step < 0.05 * self.steps:
            self.collapsed = 0
            return None
        self.collapsed += 1
        if self.collapsed < self.settings.patience:
            return None
        self.collapsed = 0
        return self._act("rollback", f"{' and '.join(signs)} at step {step}", step)

    @property
    def calm(self) -> bool:
        """Whether nothing looks suspicious, so that a checkpoint written now is one to come back to."""
        return self.settings.action == "off" or not (self.spikes or self.collapsed)

    def state(self) -> dict[str, object]:
        """What a resumed run must know to decide as this one would."""
        return {
            "losses": list(self.losses),
            "start": self.start,
            "spikes": self.spikes,
            "collapsed": self.collapsed,
            "rollbacks": self.rollbacks,
            "in_a_row": self.skipped_in_a_row,
        }

    def restore(self, state: dict[str, object]) -> None:
        """Take up ``state()`` of another watch."""
        self.losses = deque(state["losses"], maxlen=50)  # type: ignore[call-overload]
        self.start = state["start"]  # type: ignore[assignment]
        self.spikes, self.collapsed = int(state["spikes"]), int(state["collapsed"])  # type: ignore[call-overload]
        self.rollbacks, self.skipped_in_a_row = int(state["rollbacks"]), int(state["in_a_row"])  # type: ignore[call-overload]


def norm(parameters: list[Tensor]) -> Tensor:
    """The gradient norm over all of ``parameters``, a 0-d tensor; zero where there is no gradient."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    total = torch.nn.utils.get_total_norm(gradients)
    return total.full_tensor() if hasattr(total, "full_tensor") else total
