"""The one training loop.

An objective says what it reads, what it loses and what to update after a step; everything else is here: order, devices, processes, accumulation, rates,
checkpoints, the watch. The state of a run is the objective, the optimiser and one integer; all else follows from keys.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from understudy import collective, keyed
from understudy.data.sampler import Stream
from understudy.data.samples import Batch, Samples
from understudy.engine import checkpoint, distribution, optimizers
from understudy.engine.run import Run
from understudy.engine.watch import Alarm, Watch, health, norm
from understudy.errors import Interrupted, UserError
from understudy.settings import RunSettings, parse_duration

REVIEWS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the steps after which a time budget is looked at again."""


class Trainable(Protocol):
    """What the loop asks of an objective (``systems.base.Objective``), which is an ``nn.Module`` besides."""

    reads: ClassVar[Mapping[str, int]]
    coupled: ClassVar[bool]
    watched: dict[str, Tensor]
    step: int
    steps: int

    def __call__(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]: ...

    def parameter_groups(self, weight_decay: float) -> Iterable[dict[str, Any]]: ...

    def after_step(self) -> None: ...

    def heavy(self) -> Iterable[nn.Module]: ...


class Collapsed(UserError):
    """The watch stopped the run."""


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Let Ctrl-C (and SIGTERM) end the step first; a second Ctrl-C ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def seed_modules(key: int, device: torch.device) -> None:
    """Seed the generators that modules such as dropout draw from. ``torch.manual_seed`` would ask every kind of device there is, at every step."""
    seed = key & (1 << 62) - 1
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


class Loop:
    """One objective on its way to the last step."""

    def __init__(self, objective: nn.Module, streams: Mapping[str, Samples], settings: RunSettings, run: Run):
        self.objective = cast(Any, objective)
        self.settings = settings
        self.run = run
        self.device = distribution.start(settings.device)
        train = settings.train
        self.chunks = collective.world() * train.accumulate
        for name, multiple in self.objective.reads.items():
            if train.batch * multiple % self.chunks:
                raise UserError(
                    f"a batch of {train.batch * multiple} ('{name}') cannot be split over {collective.world()} process(es) x train.accumulate={train.accumulate}; change train.batch"
                )
        if train.accumulate > 1 and self.objective.coupled:
            raise UserError(
                f"{type(objective).__name__} compares the samples of a batch with each other, so train.accumulate={train.accumulate} would change its loss; use more processes or a smaller train.batch"
            )
        self.key = int(keyed.fold(settings.seed, "run"))
        self.streams = {
            name: Stream(streams[name], train.batch * multiple, int(keyed.fold(self.key, "order", name))) for name, multiple in self.objective.reads.items()
        }
        self.samples = streams
        objective.to(self.device)
        self.wrapped = distribution.wrap(objective, train.parallel)
        if train.compile:
            for module in self.objective.heavy():
                module.compile()
        self.optimizer = optimizers.build(self.objective.parameter_groups(settings.optim.weight_decay), settings.optim)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.steps = 0
        self.rate_scale = 1.0
        self.skipped: set[int] = set()
        self.spent = 0.0
        """Seconds that earlier processes of this run, and the rehearsal of a time budget, have used."""
        self.started = time.monotonic()

    def batches(self, step: int, micro: int) -> dict[str, Batch]:
        """This process's part ``micro`` of the global batches of ``step``."""
        part = micro * collective.world() + collective.rank()
        return {name: self.samples[name].batch(stream.indices(step, part, self.chunks), self.key, step, self.device) for name, stream in self.streams.items()}

    def once(self, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Everything between two steps of the optimiser; returns the terms of the loss and the gradient's norm, still on the device."""
        objective, settings = self.objective, self.settings
        objective.step = step
        accumulate = settings.train.accumulate
        totals: dict[str, Tensor] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(accumulate):
            seed_modules(int(keyed.fold(self.key, "modules", step, micro, collective.rank())), self.device)
            parallel = isinstance(self.wrapped, DistributedDataParallel)
            quiet = cast(Any, self.wrapped).no_sync() if parallel and micro < accumulate - 1 else nullcontext()
            with quiet:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.train.precision == "bf16"):
                    terms = self.wrapped(self.batches(step, micro))
                # A vector holds a term per sample: its share of the mean over the global batch. A 0-d term is the whole batch's already, on every process.
                shares = {name: term if term.dim() == 0 else term.float().sum() / (len(term) * self.chunks) for name, term in terms.items()}
                # DDP and FSDP average gradients over processes, and the package's convention is the sum.
                (torch.stack([s.float() for s in shares.values()]).sum() * collective.world()).backward()
            for name, share in shares.items():
                mine = share.detach().float() / (collective.world() if terms[name].dim() == 0 else 1)
                totals[name] = totals[name] + mine if name in totals else mine
        gradient = norm(self.parameters)
        if settings.optim.clip:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, settings.optim.clip, gradient)
        optimizers.set_rate(self.optimizer, self.rate_scale * optimizers.rate(settings.optim, step, self.steps))
        self.optimizer.step()
        with torch.no_grad():
            objective.after_step()
        return totals, gradient

    def steps_within(self, seconds: float) -> int:
        """How many steps a time budget allows, measured on a copy of the objective so that the run itself starts untouched."""
        if collective.world() > 1:
            raise UserError("a time budget cannot be shared by several processes; give --set train.steps=N")
        rehearsal = copy.copy(self)
        rehearsal.objective = copy.deepcopy(self.objective)
        rehearsal.wrapped = rehearsal.objective
        rehearsal.optimizer = optimizers.build(rehearsal.objective.parameter_groups(self.settings.optim.weight_decay), self.settings.optim)
        rehearsal.parameters = [p for group in rehearsal.optimizer.param_groups for p in group["params"]]
        rehearsal.objective.steps = rehearsal.steps = 1000
        times: list[float] = []
        # The first steps allocate and warm caches. More than a few are timed only where they are a small part of the whole.
        while len(times) < 4 or (len(times) < 24 and sum(times) < 0.02 * seconds):
            start = time.perf_counter()
            float(sum(rehearsal.once(len(times))[0].values()))
            times.append(time.perf_counter() - start)
        self.spent = sum(times)
        return max(10, int((seconds - self.spent) / (sum(times[1:]) / (len(times) - 1))))

    @property
    def elapsed(self) -> float:
        """Seconds of training, of this process and of those before it."""
        return self.spent + time.monotonic() - self.started

    def reviewed(self, step: int, budget: float) -> int:
        """How many steps there are in all, by the pace so far: other programs come and go, and the first few steps said little."""
        return step + max(1, int((budget - self.elapsed) * step / self.elapsed))

    def save(self, step: int, watch: Watch) -> None:
        """Write the checkpoint that stands before ``step``."""
        checkpoint.save(self.run.folder / "checkpoints", step, self.objective, self.optimizer, self.facts(watch), self.settings.checkpoint.keep)

    def facts(self, watch: Watch) -> dict[str, Any]:
        """What a checkpoint says besides tensors."""
        return {"steps": self.steps, "spent": self.elapsed, "rate_scale": self.rate_scale, "skipped": sorted(self.skipped), "watch": watch.state()}

    def restore(self, watch: Watch | None = None) -> int | None:
        """Go to the newest checkpoint; returns its step, or None where there is none."""
        facts = checkpoint.restore(self.run.folder / "checkpoints", self.objective, self.optimizer)
        if facts is None:
            return None
        self.steps, self.spent, self.rate_scale, self.skipped = facts["steps"], facts["spent"], facts["rate_scale"], set(facts["skipped"])
        if watch:
            watch.restore(facts["watch"])
        return int(facts["step"])

    def to_the_end(self) -> None:
        """Train until the last step, from the newest checkpoint if there is one.

        Raises Interrupted after Ctrl-C, at a checkpoint; Collapsed where the watch stops the run.
        """
        train, every = self.settings.train, self.settings.watch.every
        watch = Watch(self.settings.watch, 0)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []), interruptible() as asked:
            step = self.restore(watch)
            budget = None if train.steps else parse_duration(train.budget or "60s")
            if step is None:
                self.steps = train.steps or self.steps_within(budget or 60.0)
                step = 0
            self.started = time.monotonic()
            reviews = [share for share in REVIEWS if step < share * self.steps] if budget and collective.world() == 1 else []
            self.objective.steps = watch.steps = self.steps
            self.run.forget_metrics_from(step)
            if step == 0:
                self.save(0, watch)
            self.objective.train()
            pending: list[tuple[int, dict[str, Tensor], Tensor]] = []
            # Asking a GPU for a number stalls it: there the watch looks at whole windows. On a CPU a look costs nothing.
            window = every if self.device.type == "cuda" else 1
            began, last_checkpoint = step, time.monotonic()
            while step < self.steps:
                if step not in self.skipped:
                    pending.append((step, *self.once(step)))
                step += 1
                due, stop = (
                    self.agreed(time.monotonic() - last_checkpoint > 60, asked.is_set()) if step % window == 0 or collective.world() == 1 else (False, False)
                )
                if self.settings.checkpoint.every:
                    due = step % self.settings.checkpoint.every == 0
                if reviews and step >= reviews[0] * self.steps:
                    del reviews[0]
                    self.objective.steps = watch.steps = self.steps = self.reviewed(step, budget or 60.0)
                    due = True
                alarm = None
                if step % window == 0 or step == self.steps or due or stop:
                    alarm = self.look(watch, pending)
                    pending.clear()
                if alarm:
                    step = self.answer(alarm, watch)
                elif step < self.steps and (stop or (due and watch.calm)):
                    self.save(step, watch)
                    last_checkpoint = time.monotonic()
                if stop and step < self.steps:
                    raise Interrupted(f"stopped after step {step} of {self.steps}; go on with: understudy resume {self.run.root}")
            if began < self.steps:
                self.save(self.steps, watch)
        self.objective.eval()

    def agreed(self, *wishes: bool) -> list[bool]:
        """Each wish that any process has: all of them must do the same."""
        if collective.world() == 1:
            return list(wishes)
        return (collective.agree(torch.tensor(wishes, dtype=torch.float32, device=self.device)) > 0).tolist()  # type: ignore[no-any-return]

    def look(self, watch: Watch, pending: list[tuple[int, dict[str, Tensor], Tensor]]) -> Alarm | None:
        """Record finished steps and let the watch look at them."""
        for step, totals, gradient in pending:
            values = (
                collective.total(torch.stack([*totals.values()]).cpu())
                if self.device.type == "cpu"
                else collective.total(torch.stack([*totals.values()])).cpu()
            )
            terms = dict(zip(totals, values.tolist(), strict=True))
            loss, gradient_norm = sum(terms.values()), float(gradient)
            alarm = watch.look_at_numbers(step, loss, gradient_norm)
            figures: dict[str, float] = {}
            if alarm is None and (step + 1) % self.settings.watch.every == 0:
                figures = self.everywhere(health(self.objective.watched))
                alarm = watch.look_at_health(step, figures)
            if alarm is None and (step % self.settings.watch.every == 0 or step == self.steps - 1 or figures):
                rate = self.rate_scale * optimizers.rate(self.settings.optim, step, self.steps)
                self.run.metric(step=step, loss=loss, **terms, gradient=gradient_norm, lr=rate, **{k: v for k, v in figures.items() if k != "rank_limit"})
            if alarm:
                return alarm
            self.run.listener.progress(step + 1, self.steps, loss=loss)
        return None

    def everywhere(self, figures: dict[str, float]) -> dict[str, float]:
        """Each figure's mean over the processes, which see different samples and must come to the same decision."""
        if collective.world() == 1:
            return figures
        means = collective.total(torch.tensor([*figures.values()], device=self.device)) / collective.world()
        return dict(zip(figures, means.tolist(), strict=True))

    def answer(self, alarm: Alarm, watch: Watch) -> int:
        """Do what the watch asks; returns the step to go on from."""
        self.run.metric(step=alarm.step, event=alarm.action, reason=alarm.reason)
        if alarm.action == "stop":
            raise Collapsed(f"training stopped: {alarm.reason}; the last good checkpoint stands in {self.run.folder / 'checkpoints'}")
        memory = (watch.rollbacks, watch.skipped_in_a_row)
        skipped, scale, spent, steps = self.skipped | {alarm.step}, self.rate_scale, self.spent, self.steps
        step = self.restore(watch)
        assert step is not None, "a run always has a checkpoint, from step 0 on"
        watch.rollbacks, watch.skipped_in_a_row = memory
        self.skipped, self.rate_scale, self.spent, self.steps = self.skipped | skipped, scale, spent, steps
        if alarm.action == "rollback":
            self.rate_scale, watch.rollbacks, watch.skipped_in_a_row = scale * 0.5, watch.rollbacks + 1, 0
            self.skipped.discard(alarm.step)
            self.run.listener.say(f"{alarm.reason}: going back to step {step} with half the learning rate")
        else:
            self.run.listener.say(f"{alarm.reason}: that batch is skipped")
        # The decision itself must survive a kill: it belongs to the checkpoint that the run goes on from, whose tensors stay what they are.
        checkpoint.amend(self.run.folder / "checkpoints", step, self.facts(watch))
        self.run.forget_metrics_from(step)
        self.run.metric(step=step, event=alarm.action, reason=alarm.reason)
        return step


def train(objective: nn.Module, streams: Mapping[str, Samples], settings: RunSettings, run: Run) -> None:
    """Train ``objective`` in place on the samples it reads; goes on where ``run`` was left.

    Raises UserError for batches that cannot be split, a missing device, or a run that the watch had to stop.
    """
    Loop(objective, streams, settings, run).to_the_end()
