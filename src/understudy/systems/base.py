"""The four shapes that hold every system, and the card that says what a system is.

- *Objective*: a differentiable loss on a batch, and what to update after the optimiser's step.
- *Rounds*: propose, score, select, train, promote, again and again.
- *Stream*: predict and adapt on data that passes once.
- *Plan*: stages, each one of the above, handing models and labels on.

A system is built from its settings and a ``Task``, and ``run()`` returns an ``Outcome``: that is all that stages, verbs and claims know of it.
"""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from understudy import collective, keyed
from understudy.data.modalities import KINDS, SceneModality
from understudy.data.samples import Batch, Samples
from understudy.engine import checkpoint, distribution, loop, optimizers
from understudy.engine.run import Run, write_atomically
from understudy.errors import Interrupted, UserError
from understudy.labels.codecs import Soft
from understudy.labels.store import LabelStore
from understudy.models import io
from understudy.models.norm import follow_batches
from understudy.models.optimization import decay_groups
from understudy.models.predict import predict
from understudy.models.student import Student
from understudy.settings import RunSettings, Settings, leaves, parse_duration
from understudy.teachers.base import Teacher
from understudy.teachers.rewards import Reward

_OF_THE_WHOLE = ("seed", "device", "train.batch", "train.precision", "train.compile", "train.parallel", "checkpoint.", "watch.")
"""Common settings that the stages of a plan take over from it; how long and how fast each learns is its own."""

Needs = Literal["nothing", "labels", "teacher", "labels and teacher", "verifier"]


@dataclass(frozen=True)
class Card:
    """What a stranger reads before the code."""

    slug: str
    id: str
    title: str
    paper: str
    """arXiv id or venue."""
    year: int
    family: str
    modalities: tuple[str, ...]
    needs: Needs
    idea: str
    """Two or three sentences in our own words."""
    equations: tuple[str, ...] = ()
    unknown: str = ""
    """What could not be found out, and what was decided instead."""

    def takes(self, modality: str) -> bool:
        """Whether the system works on this kind of data. What works on a kind works on one made from it, such as molecules from texts; what works on images,
        texts and tables alike works on every kind whose samples can be altered and stay what they are."""
        kind, general = KINDS[modality], {"image", "text", "table"} <= set(self.modalities)
        if issubclass(kind, SceneModality):  # labels that are drawn are no classes: only who says so can learn them
            return modality in self.modalities
        return any(issubclass(kind, KINDS[name]) for name in self.modalities) or general and {"weak", "strong"} <= set(kind.views)


@dataclass(frozen=True)
class Task:
    """What a system is run on."""

    train: Samples
    """Everything that may be learned from; the label is -1 where there is none."""
    student: Student
    """Where the student starts. Systems work on a copy."""
    settings: RunSettings
    run: Run
    validation: Samples | None = None
    teacher: Teacher | None = None
    also: Mapping[str, Samples] = field(default_factory=dict)
    """Further samples by the name that an objective reads them under, such as ``pseudo``."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What the user set explicitly, by dotted name (``optim.lr``, ``sdfp.weight``): it wins over the defaults of every stage."""
    reward: Reward | None = None
    """Who says what a written answer is worth."""
    planned: Mapping[str, Any] = field(default_factory=dict)
    """Common settings that a plan gave this stage, by dotted name: they win over the defaults of the system."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    def __deepcopy__(self, memo: Any) -> Task:
        # Nothing in it changes, and a copy of an objective must not copy the data, nor the console that listens.
        return self

    def key(self, purpose: str) -> int:
        """The key of one purpose in this run, such as a head's initialisation."""
        return int(keyed.fold(self.settings.seed, purpose))


@dataclass
class Outcome:
    """What a system gives back."""

    student: Student
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON: figures of the run."""


class System(metaclass=ABCMeta):  # the base class ABC has no __dict__, and FSDP could not make its own class out of ours
    """One paper, runnable."""

    card: ClassVar[Card]
    Settings: ClassVar[type[Settings]] = Settings
    defaults: ClassVar[Mapping[str, Any]] = {}
    """The paper's own values of the common settings, by dotted name, such as ``{"optim.lr": 1e-3}``."""

    def __init__(self, settings: Any, task: Task):
        self.settings = settings
        self.task = replace(task, settings=task.settings.changed({"optim.lr": self.rate(task)}))
        self.check(task)

    def rate(self, task: Task) -> float:
        """The learning rate: the user's, or the plan's, or the system's, or what suits the student; never more than published weights bear, but for the user's."""
        optim, backbone = task.settings.optim, task.student.backbone
        if "optim.lr" in task.chosen or optim.name != "adamw":
            return optim.lr
        rate = optim.lr if "optim.lr" in self.defaults or "optim.lr" in task.planned else backbone.rate
        return min(rate, backbone.rate) if backbone.published else rate

    def check(self, task: Task) -> None:
        """Refuse at once what cannot work. Raises UserError."""
        needs, name = self.card.needs, self.card.slug
        if "labels" in needs and not bool((task.train.labels >= 0).any()):
            raise UserError(f"{name} learns from labels and none of the {len(task.train)} samples has one; give --labels FILE or class folders")
        if "teacher" in needs and task.teacher is None:
            raise UserError(
                f"{name} needs a teacher; give --teacher with timm:NAME, hf:NAME, run:FOLDER, labels:FOLDER, annotations:FILE or a server's address"
            )
        if "verifier" in needs and task.reward is None:
            raise UserError(f"{name} learns from answers that were checked; give --verifier with a Python file that has a function verify")
        if not self.card.takes(task.train.modality.name):
            raise UserError(f"{name} works on {', '.join(self.card.modalities)}, and the data are {task.train.modality.name}")

    @abstractmethod
    def run(self) -> Outcome:
        """Do it; goes on where the run was left."""


class Objective(System, nn.Module):
    """A differentiable loss on a batch.

    A subclass sets ``reads`` (which samples, in which proportion), makes what it needs in ``build`` and returns its terms from ``losses``: a vector ``[B]``
    where every sample has a loss of its own (exact under accumulation and processes), a 0-d tensor where the loss couples the samples of the global
    batch (computed from ``collective.gather``; then ``coupled`` is true). Modules, parameters and buffers assigned in ``build`` are trained,
    checkpointed and distributed; a frozen teacher is neither.
    """

    reads: ClassVar[Mapping[str, int]] = {"everything": 1}
    """Names of samples (everything, labelled, unlabelled) and how many times ``train.batch`` of each a step takes."""
    coupled: ClassVar[bool] = False
    shards: ClassVar[bool] = True
    """Whether its weights can lie in pieces on several processes (``train.parallel=fsdp``); not where a loss itself takes a gradient."""

    def __init__(self, settings: Any, task: Task):
        nn.Module.__init__(self)
        System.__init__(self, settings, task)
        if task.settings.train.parallel == "fsdp" and not self.shards:
            raise UserError(f"{self.card.slug} takes a gradient within its loss, which weights in pieces do not allow; set train.parallel=ddp")
        self.watched: dict[str, Tensor] = {}
        self.step = 0
        self.steps = 1
        self.student = task.student.clone()
        self.build(task)

    def build(self, task: Task) -> None:
        """Make heads, teachers, queues. ``self.student`` is already a copy of the task's."""

    def classify(self, task: Task) -> None:
        """Give the student a head for the task's classes, unless it has that head already."""
        if self.student.head is None or self.student.classes != task.classes:
            self.student = self.student.with_head(task.classes, task.key("head"))

    @abstractmethod
    def losses(self, **batches: Batch) -> dict[str, Tensor]:
        """The terms of the loss; called with the batches that ``reads`` names."""

    def after_step(self) -> None:
        """What follows the optimiser's step, once a step: EMA, queue, centre. Runs without gradients."""

    def result(self) -> Student:
        """The model that the run yields."""
        return self.student

    def facts(self) -> dict[str, Any]:
        """Figures to keep with the outcome."""
        return {}

    @property
    def progress(self) -> float:
        """Share of the steps that are done, for schedules."""
        return self.step / self.steps

    def samples(self) -> dict[str, Samples]:
        """The samples behind each name in ``reads``. Raises UserError where there are none."""
        known = {"everything": self.task.train, "labelled": self.task.train.labelled, "unlabelled": self.task.train.unlabelled, **self.task.also}
        for name in self.reads:
            if name not in known or not len(known[name]):
                raise UserError(f"{self.card.slug} reads {name} samples and there are none among the {len(self.task.train)} given")
        return {name: known[name] for name in self.reads}

    def forward(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """``losses``, as DDP and FSDP call it."""
        return self.losses(**batches)

    def parameter_groups(self, weight_decay: float) -> Iterable[dict[str, Any]]:
        """What the optimiser steps: every parameter with a gradient; no decay on biases, norms and other vectors."""
        return decay_groups(self, weight_decay, self.task.settings.optim.layer_decay)

    def heavy(self) -> Iterable[nn.Module]:
        """What is worth compiling."""
        return [self.student.backbone]

    def train(self, mode: bool = True) -> Objective:
        """Training mode, for everything but models whose parameters are all frozen: those stay as they were made. A frozen part of a model evaluates."""
        for child in self.children():
            if not _frozen(child):
                child.train(mode)
                for part in child.modules():
                    if _frozen(part):
                        part.eval()
        self.training = mode
        return self

    def run(self) -> Outcome:
        loop.train(self, self.samples(), self.task.settings, self.task.run)
        distribution.gather(self)
        result = self.result()
        # An average of the weights is frozen while it follows; whoever is given it goes on with it.
        learns = {name: p.requires_grad for name, p in self.student.named_parameters()}
        for name, parameter in result.named_parameters():
            parameter.requires_grad_(learns.get(name, True))
        return Outcome(result, self.facts())


class Staged(System):
    """A system that runs others, one after another, in folders of its run. A finished stage is loaded, not done again."""

    def share(self, fraction: float) -> dict[str, Any]:
        """``fraction`` of this system's own steps or time, as common settings of a stage."""
        train = self.task.settings.train
        if train.steps:
            return {"train.steps": max(1, round(train.steps * fraction))}
        return {"train.budget": f"{parse_duration(train.budget or '1m') * fraction:.3f}"}

    def stage(self, name: str, slug: str, student: Student, *, train: Samples | None = None, teacher: Teacher | None = None, also: Mapping[str, Samples] | None = None,
              settings: Mapping[str, Any] | None = None, common: Mapping[str, Any] | None = None) -> Outcome:  # fmt: skip
        """Run the system ``slug`` as the stage ``name`` and return its outcome, read back from disk: the next stage gets the same whether or not the run was resumed.

        ``settings`` are the system's own by name, ``common`` the common ones by dotted name. Values come from the system's defaults, then from here, then from the user.
        """
        from understudy import systems

        run = self.task.run.inner("stages", name)
        if run.read("stage.json") is None:
            kind, task = systems.get(slug), self.task
            known = leaves(RunSettings)
            mine = {k: v for k, v in task.chosen.items() if k in known and k not in ("train.steps", "train.budget")}
            theirs = {k.removeprefix(f"{slug}."): v for k, v in task.chosen.items() if k.startswith(f"{slug}.")}
            shared = {name: value for name, value in task.settings.flat().items() if name.startswith(_OF_THE_WHOLE)}
            resolved = RunSettings().changed({**shared, **kind.defaults, **(common or {}), **mine})
            run.listener.stage(name, kind.card.title)
            began = time.monotonic()
            inner = replace(
                task,
                student=student,
                train=task.train if train is None else train,
                teacher=teacher,
                also=also or {},
                settings=resolved,
                run=run,
                planned=common or {},
            )
            outcome = kind(kind.Settings().changed({**(settings or {}), **theirs}), inner).run()
            if collective.rank() == 0:
                io.save(outcome.student, run.folder / "model")
            run.write("stage.json", {"name": name, "system": slug, "seconds": round(time.monotonic() - began, 2), "facts": outcome.facts})
            collective.barrier()
        finished = run.read("stage.json")
        assert finished is not None, "a finished stage has written it"
        return Outcome(io.load(run.folder / "model"), finished["facts"])


class Plan(Staged):
    """Stages in plain Python: ``run`` reads like the paper's recipe and calls ``self.stage`` for each step."""


@dataclass
class Proposals:
    """What a teacher proposes for the unlabelled samples in one round."""

    samples: Samples
    probabilities: Tensor
    """float32 ``[N, C]``."""

    @property
    def labels(self) -> Tensor:
        return self.probabilities.argmax(-1)

    @property
    def confidence(self) -> Tensor:
        return self.probabilities.amax(-1)

    def selected(self, chosen: Tensor, *, soft: bool = False, weights: Tensor | None = None) -> Samples:
        """The chosen samples (bool ``[N]``) with their pseudo-labels, hard or soft."""
        picked = self.samples.take(chosen)
        targets = self.probabilities[chosen] if soft else None
        return picked.relabelled(self.labels[chosen], None if weights is None else weights[chosen], targets)


class Rounds(Staged):
    """Propose, score and select, train, promote. Each round is on disk before the next begins: proposals as a label store, the student as a stage."""

    rounds: int = 1

    @abstractmethod
    def first(self) -> Student:
        """The teacher of the first round."""

    @abstractmethod
    def select(self, proposals: Proposals, round: int) -> Samples:
        """Which proposals the student of this round learns, and with which weights."""

    @abstractmethod
    def learn(self, selected: Samples, teacher: Student, round: int) -> Student:
        """The student of this round."""

    def promote(self, teacher: Student, student: Student, round: int) -> Student:
        """The teacher of the next round: the student, unless a system decides otherwise."""
        return student

    def pool(self) -> Samples:
        """What is proposed for: the unlabelled samples."""
        return self.task.train.unlabelled

    def propose(self, teacher: Student, round: int) -> Proposals:
        """The teacher's probabilities on the plain view, from the round's label store where they already are."""
        pool = self.pool()
        if not len(pool):
            raise UserError(f"{self.card.slug} labels unlabelled samples and there are none among the {len(self.task.train)} given")
        folder = self.task.run.folder / "labels" / f"round-{round}"
        if (folder / "complete").exists():
            return Proposals(pool, LabelStore.open(folder).read(pool.keys, torch.zeros(len(pool), dtype=torch.int32))["probabilities"])
        p = predict(teacher, pool, device=distribution.start(self.task.settings.device)).softmax(-1)
        if collective.rank() == 0:
            store = LabelStore.create(
                folder,
                teacher=f"{self.card.slug}, round {round}",
                data=pool.fingerprint,
                view={"name": "plain"},
                codec=Soft("float32"),
                classes=self.task.classes,
                replace=True,
            )
            store.append(pool.keys, torch.zeros(len(pool), dtype=torch.int32), {"probabilities": p})
            store.flush()
            (folder / "complete").touch()
        collective.barrier()
        return Proposals(pool, p)

    def run(self) -> Outcome:
        teacher = self.first()
        history: list[dict[str, Any]] = []
        for round in range(1, self.rounds + 1):
            proposals = self.propose(teacher, round)
            selected = self.select(proposals, round)
            if not len(selected):
                self.task.run.listener.say(
                    f"round {round}: the teacher is sure of none of the {len(proposals.samples):,} samples, so there is nothing to learn from it"
                )
                break
            history.append(
                {
                    "round": round,
                    "proposed": len(proposals.samples),
                    "selected": len(selected),
                    "classes": torch.bincount(selected.labels.clamp_min(0), minlength=len(self.task.classes)).tolist(),
                }
            )
            student = self.learn(selected, teacher, round)
            teacher = self.promote(teacher, student, round)
            self.task.run.write("rounds.json", {"rounds": history})
        return Outcome(teacher, {"rounds": history})


class Stream(System, nn.Module):
    """Predict and adapt on data that passes once, in order, without its labels.

    Everything is in evaluation mode except batch normalisations, which take the statistics of the batch at hand; their running statistics, for use after
    the stream, follow what passes. Modules, parameters and buffers assigned in ``build`` are trained and checkpointed. The stream is cut into batches as
    even as can be, of at most ``train.batch`` samples: a small rest would have no statistics.
    """

    defaults = {"optim.weight_decay": 0.0, "optim.warmup": 0.0, "optim.schedule": "constant"}
    unread: ClassVar[tuple[str, ...]] = ("train.steps", "train.budget", "train.accumulate", "train.precision", "train.compile", "train.parallel", "watch.")
    """Common settings that mean nothing here; they are refused rather than passed over."""

    def __init__(self, settings: Any, task: Task):
        nn.Module.__init__(self)
        System.__init__(self, settings, task)
        self.device = distribution.start(task.settings.device)
        if collective.world() > 1:
            raise UserError(f"{self.card.slug} follows one stream in one process; start it without torchrun")
        self.step = 0
        self.steps = -(-len(task.train) // task.settings.train.batch)
        self.figures: dict[str, float] = {}
        self.student = task.student.clone()
        self.build(task)
        self.to(self.device)
        if follow_batches(self) and len(task.train) // self.steps < 2:
            raise UserError(f"{self.card.slug} takes the statistics of a batch, and a batch of one sample has none; give more samples or raise train.batch")
        optim = task.settings.optim
        self.optimizer = optimizers.build(self.parameter_groups(optim.weight_decay), optim)

    def check(self, task: Task) -> None:
        super().check(task)
        name = self.card.slug
        refused = [setting for setting in task.chosen if setting.startswith(self.unread)]
        if refused:
            raise UserError(f"{name} passes once over a stream and has no use for {', '.join(refused)}; leave it out")
        if task.student.head is None:
            raise UserError(f"{name} adapts a model that has classes, and this one is a backbone alone; finetune it first")
        if not len(task.train):
            raise UserError(f"{name} was given a stream without samples")
        if bool((task.train.labels >= 0).any()) and task.train.classes != task.student.classes:
            theirs, own = (", ".join(classes[:5]) for classes in (task.train.classes, task.student.classes))
            raise UserError(f"the stream's classes ({theirs} …) are not the model's ({own} …); leave its labels out")

    def build(self, task: Task) -> None:
        """Make teachers, heads, buffers. ``self.student`` is already a copy of the task's."""

    def parameter_groups(self, weight_decay: float) -> Iterable[dict[str, Any]]:
        """What the optimiser steps, as in ``Objective``."""
        return decay_groups(self, weight_decay, self.task.settings.optim.layer_decay)

    def warm_up(self) -> None:
        """What is done once, before anything passes; a resumed run has it behind it."""

    @abstractmethod
    def predict_and_adapt(self, batch: Batch) -> Tensor:
        """Logits ``[B, C]`` for this batch, while learning from it. Its labels are -1. A row of -inf alone says that the sample is of none of the classes."""

    def learn(self, rate: float | None = None, **terms: Tensor) -> None:
        """One step of the optimiser on the sum of the terms' means; left out where the gradient is not finite, or one bad batch would end the model.

        ``rate``: the learning rate, if not that of ``optim`` at this step.
        """
        means = {name: term.float().mean() for name, term in terms.items()}
        loss = torch.stack([*means.values()]).sum()
        self.figures = {name: float(value.detach()) for name, value in {"loss": loss, **means}.items()}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optim = self.task.settings.optim
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.figures["gradient"] = float(torch.nn.utils.clip_grad_norm_(parameters, optim.clip or math.inf))
        if math.isfinite(self.figures["gradient"]):
            optimizers.set_rate(self.optimizer, optimizers.rate(optim, self.step, self.steps) if rate is None else rate)
            self.optimizer.step()

    def run(self) -> Outcome:
        train, run = self.task.train, self.task.run
        # Nobody can learn from labels that are not there.
        passing = train.relabelled(torch.full_like(train.labels, -1))
        batches = torch.arange(len(passing)).tensor_split(self.steps)
        key, every, saved = self.task.key("stream"), self.task.settings.checkpoint.every, time.monotonic()
        predictions = torch.empty(len(passing), dtype=torch.int64)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []), loop.interruptible() as asked:
            self._begin(key)
            done = sum(len(index) for index in batches[: self.step])
            predictions[:done] = torch.tensor(_kept(run.folder / "predictions.jsonl", done), dtype=torch.int64)
            run.forget_metrics_from(self.step)
            while self.step < self.steps:
                index = batches[self.step]
                loop.seed_modules(int(keyed.fold(key, "modules", self.step)), self.device)
                logits = self.predict_and_adapt(passing.batch(index, key, self.step, self.device)).detach().float().cpu()
                outside = logits.isneginf().all(-1)
                confidence, predictions[index] = logits.softmax(-1).masked_fill(outside.unsqueeze(-1), 0.0).max(-1)
                predictions[index[outside]] = -1
                with open(run.folder / "predictions.jsonl", "a", encoding="utf-8") as file:
                    for row, c, y in zip(index.tolist(), confidence.tolist(), predictions[index].tolist(), strict=True):
                        said = {
                            "row": row,
                            "id": passing.ids[row],
                            "prediction": y,
                            "class": self.student.classes[y] if y >= 0 else None,
                            "confidence": round(c, 6),
                        }
                        file.write(json.dumps(said, ensure_ascii=False) + "\n")
                run.metric(step=self.step, confidence=float(confidence.mean()), **self.figures)
                self.step += 1
                run.listener.progress(self.step, self.steps, confidence=float(confidence.mean()))
                due = self.step % every == 0 if every else time.monotonic() - saved > 60
                if due or asked.is_set() or self.step == self.steps:
                    self._save()
                    saved = time.monotonic()
                if asked.is_set() and self.step < self.steps:
                    raise Interrupted(f"stopped after batch {self.step} of {self.steps}; go on with: understudy resume {run.root}")
        right = (predictions == train.labels)[train.labels >= 0]
        accuracy = float(right.float().mean()) if len(right) else None
        return Outcome(self.result(), {"samples": len(train), "online_accuracy": accuracy, "predictions": predictions.tolist()})

    def result(self) -> Student:
        """The model after the stream."""
        return self.student.eval()

    def _begin(self, key: int) -> None:
        """Go to the newest checkpoint, or warm up and write the first."""
        found = checkpoint.restore(self.task.run.folder / "checkpoints", self, self.optimizer)
        if found is None:
            loop.seed_modules(int(keyed.fold(key, "warm-up")), self.device)
            self.warm_up()
            self._save()
        self.step = found["step"] if found else 0

    def _save(self) -> None:
        """Write the checkpoint that stands before ``step``; what was predicted until then reaches the disk first."""
        folder = self.task.run.folder
        with open(folder / "predictions.jsonl", "a", encoding="utf-8") as file:
            os.fsync(file.fileno())
        checkpoint.save(folder / "checkpoints", self.step, self, self.optimizer, {}, self.task.settings.checkpoint.keep)


def _frozen(module: nn.Module) -> bool:
    """Whether there are parameters and none of them is trained."""
    own = [p.requires_grad for p in module.parameters()]
    return bool(own) and not any(own)


def _kept(path: Path, rows: int) -> list[int]:
    """Cut the file of predictions back to the ``rows`` lines before the checkpoint, and return what they predict."""
    lines = path.read_text(encoding="utf-8").split("\n")[:rows] if path.exists() else []
    try:
        kept = [int(json.loads(line)["prediction"]) for line in lines]
    except (json.JSONDecodeError, KeyError, TypeError):
        kept = []
    if len(kept) < rows:
        raise UserError(f"{path} has lost predictions that the checkpoint beside it counts as made; start a new run with another --out")
    write_atomically(path, "".join(line + "\n" for line in lines))
    return kept
