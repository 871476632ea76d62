"""Claims: the smallest honest experiment of a paper, run again by anyone, with controls, over paired seeds.

``claims/<slug>.py`` (dashes as underscores) defines ``claim = Claim(...)``; ``claims/README.md`` says how to write one. What a run found is kept in
``claims/results/<slug>.json``, whichever way it falls.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import math
import subprocess
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from understudy import __version__, catalogue, nearest
from understudy.errors import UserError

# Asking which claims there are must not wait for torch: everything heavy is imported where it is used.
if TYPE_CHECKING:
    from understudy.data.samples import Samples
    from understudy.engine.run import Listener
    from understudy.models import Student
    from understudy.systems.base import Outcome, System
    from understudy.teachers.base import Teacher
    from understudy.teachers.rewards import Reward

Figures = Mapping[str, Sequence[float]]
"""What was measured: the values of each arm, one per seed, in the order of the seeds."""
ENOUGH_SEEDS = 3
"""With fewer, a standard error says nothing and the verdict is unclear."""


def difference(treatment: Sequence[float], control: Sequence[float]) -> tuple[float, float]:
    """Mean of the paired differences treatment - control, and its standard error; of two pairs or more."""
    differences = [t - c for t, c in zip(treatment, control, strict=True)]
    return fmean(differences), stdev(differences) / math.sqrt(len(differences))


def beats(treatment: Sequence[float], control: Sequence[float]) -> bool:
    """Whether treatment is above control by more than two standard errors of the paired difference."""
    mean, error = difference(treatment, control)
    return mean > 2 * error


@dataclass(frozen=True)
class Claim:
    """What a paper says, and the experiment that could show it wrong."""

    system: str
    says: str
    """One sentence: what must be seen."""
    effect: tuple[str, str]
    """Treatment and control: the arms whose paired difference decides."""
    arms: Mapping[str, Callable[[int], float]] = field(default_factory=dict)
    """Each arm by name: from a seed to one figure."""
    run: Callable[[int], Mapping[str, float]] | None = None
    """Instead of ``arms``, where they share work: from a seed to the figures of all arms, and further figures for the checks."""
    higher: bool = True
    """Whether a higher figure is better."""
    negative: tuple[str, ...] = ()
    """Arms that are broken on purpose and must not beat the control."""
    checks: Mapping[str, Callable[[Figures], bool]] = field(default_factory=dict)
    """What else must hold for the claim to stand, each by one sentence."""
    observed: Mapping[str, Callable[[Figures], bool]] = field(default_factory=dict)
    """What else the paper says or one would like to know, each by one sentence: reported, whichever way it falls, and not judged."""
    data: str = ""
    minutes_budget: float = 10.0
    """About how long five seeds take, one at a time."""

    def __post_init__(self) -> None:
        if (self.run is None) == (not self.arms):
            raise ValueError(f"the claim of {self.system} needs either arms or run")

    def measure(self, seed: int) -> dict[str, float]:
        """The figures of one seed. Raises UserError where an arm gives none, or none that is finite."""
        figures = self.run(seed) if self.run else {name: arm(seed) for name, arm in self.arms.items()}
        broken = [name for name in {*figures, *self.effect, *self.negative} if not math.isfinite(figures.get(name, math.nan))]
        if broken:
            raise UserError(f"the claim of {self.system} cannot be judged: seed {seed} gave no finite figure for {', '.join(sorted(broken))}; mend claims/")
        return {name: float(value) for name, value in figures.items()}

    def judge(self, figures: Figures) -> dict[str, Any]:
        """``verdict``; ``effect``, treatment over control with its standard error ``se``, positive in the paper's direction; ``checks`` and ``observed``."""
        checks = {f"{arm} (broken on purpose) does not beat {self.effect[1]}": not self._beats_control(figures, arm) for arm in self.negative}
        checks |= {name: bool(holds(figures)) for name, holds in self.checks.items()}
        effect, error = self._gain(figures, self.effect[0])
        verdict = "unclear"
        if len(figures[self.effect[0]]) >= ENOUGH_SEEDS:
            if effect > 2 * error and all(checks.values()):
                verdict = "shown"
            elif effect < -2 * error:
                verdict = "contrary"
        observed = {name: bool(holds(figures)) for name, holds in self.observed.items()}
        return {"verdict": verdict, "effect": effect, "se": error, "checks": checks, "observed": observed}

    def _gain(self, figures: Figures, arm: str) -> tuple[float, float]:
        mean, error = difference(figures[arm], figures[self.effect[1]])
        return mean if self.higher else -mean, error

    def _beats_control(self, figures: Figures, arm: str) -> bool:
        gain, error = self._gain(figures, arm)
        return gain > 2 * error


def names() -> list[str]:
    """Systems that have a claim."""
    return sorted(path.stem.replace("_", "-") for path in catalogue.claims().glob("*.py") if not path.name.startswith("_"))


def find(slug: str) -> Path:
    """The file of a system's claim. Raises UserError where there is none, with the nearest that there are."""
    known = names()
    if slug not in known:
        raise UserError(f"there is no claim '{slug}'; {nearest.hint(slug, known, 'there is ' + (', '.join(known) or 'none yet'))}")
    return catalogue.claims() / f"{slug.replace('-', '_')}.py"


def load(path: Path) -> Claim:
    """The claim that a file defines."""
    spec = importlib.util.spec_from_file_location(f"understudy_claim_{path.stem}", path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    claim = getattr(module, "claim", None)
    if not isinstance(claim, Claim):
        raise UserError(f"{path} defines no claim; it must end with: claim = Claim(...)")
    return claim


@dataclass
class Experiment:
    """A claim while it is measured."""

    slug: str
    path: Path
    claim: Claim
    target: Path | None
    """The file of the result; finished seeds are kept beside it."""
    code: str
    seeds: range
    done: dict[int, dict[str, Any]]

    @classmethod
    def open(cls, slug: str, seeds: range, out: Path | str | None) -> Experiment:
        """With the seeds that the same code has finished before. Raises UserError for an unknown claim or a place that cannot be written."""
        path = find(slug)
        code, target = _digest([*sorted(catalogue.PACKAGE.rglob("*.py")), path]), _target(slug, out)
        done = {seed: line for seed, line in _kept(target, code).items() if seed in seeds}
        return cls(slug, path, load(path), target, code, seeds, done)

    @property
    def missing(self) -> list[int]:
        return [seed for seed in self.seeds if seed not in self.done]

    def keep(self, line: dict[str, Any]) -> None:
        """Write a finished seed down at once."""
        self.done[line["seed"]] = line
        if self.target:
            with open(_beside(self.target), "a", encoding="utf-8") as file:
                # A line of its own even where a kill cut the last one short.
                file.write("\n" + json.dumps({"code": self.code, **line}))

    def result(self) -> dict[str, Any]:
        """Judge all seeds, and write the result."""
        from understudy.engine.run import write_atomically

        claim = self.claim
        figures = {name: [self.done[seed]["figures"][name] for seed in self.seeds] for name in self.done[self.seeds[0]]["figures"]}
        result = {
            "system": self.slug, **claim.judge(figures), "seeds": len(self.seeds), "arms": figures,
            "minutes": round(sum(line["seconds"] for line in self.done.values()) / 60, 2), "commit": _commit(), "sources": _sources(self.path),
            "says": claim.says, "treatment": claim.effect[0], "control": claim.effect[1], "first_seed": self.seeds[0], "data": claim.data, "versions": _versions(),
        }  # fmt: skip
        if self.target:
            write_atomically(self.target, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            _beside(self.target).unlink(missing_ok=True)
        return result


def run_claim(
    slug: str, seeds: int = 5, first_seed: int = 0, out: Path | str | None = None, workers: int = 1, listener: Listener | None = None
) -> dict[str, Any]:
    """Run the claim of a system over paired seeds, and judge it.

    The result is written to ``out`` (a folder, or a file that ends in .json); without it to ``claims/results`` of the checkout, or nowhere if there is none.
    Each finished seed is kept beside it at once: a run that was stopped goes on from there, as long as neither the package nor the claim has changed.
    ``workers`` seeds run at a time, each on one thread, so that the figures do not depend on how many there are.
    Raises UserError for an unknown claim, too few seeds, or a place that cannot be written.
    """
    for _, found in run_claims([slug], seeds, first_seed, out, workers, listener):
        if isinstance(found, Exception):
            raise found
        return found
    raise AssertionError("a claim has a result or a reason")


def run_claims(
    slugs: Sequence[str], seeds: int = 5, first_seed: int = 0, out: Path | str | None = None, workers: int = 1, listener: Listener | None = None
) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
    """As ``run_claim`` for several systems, whose seeds share the ``workers``: each name with its result as soon as there is one, or with what went wrong.

    Raises UserError for what is wrong with the question itself.
    """
    from understudy.engine.run import Listener

    if seeds < 2:
        raise UserError(f"a claim compares pairs over several seeds, and {seeds} is not enough; use --seeds 5")
    listener = listener or Listener()
    asked = [Experiment.open(slug, range(first_seed, first_seed + seeds), out) for slug in slugs]
    minutes, before = sum(one.claim.minutes_budget for one in asked) * seeds / 5, sum(len(one.done) for one in asked)
    what, says = (asked[0].slug, asked[0].claim.says) if len(asked) == 1 else (f"{len(asked)} claims", ", ".join(slugs))
    listener.stage(what, says)
    listener.say(f"{seeds} seeds each, about {minutes:.0f} minutes, one at a time; {before} of {len(asked) * seeds} done before")
    for one in asked:
        if not one.missing:
            yield one.slug, one.result()
    failed: set[str] = set()
    everything = len(asked) * seeds
    for one, line in _measured([(each, seed) for each in asked for seed in each.missing], workers):
        if one.slug in failed:
            continue
        if isinstance(line, Exception):
            failed.add(one.slug)
            yield one.slug, line
            continue
        one.keep(line)
        listener.progress(sum(len(each.done) for each in asked), everything, **(line["figures"] if len(asked) == 1 else {}))
        if not one.missing:
            yield one.slug, one.result()


def learn(
    slug: str | type[System], student: Student, train: Samples, *, seed: int, steps: int | None = None, teacher: Teacher | None = None, validation: Samples | None = None,
    also: Mapping[str, Samples] | None = None, reward: Reward | None = None, settings: Mapping[str, Any] | None = None, **common: Any,
) -> Outcome:  # fmt: skip
    """Run the system ``slug`` (or a class that changes one on purpose) from ``student`` in a folder that is gone afterwards; on the CPU, so that kept results compare.

    ``steps``: of the optimiser; a system that follows a stream takes none. ``also``: further samples by the name that the system reads them under.
    ``reward``: who checks answers. ``settings``: those of the system by name; ``common``: common settings by dotted name with ``__`` for the dot (``optim__lr=1e-3``),
    and those of a plan's stages (``**{"simclr.temperature": 0.2}``); they win over the defaults of every stage, as a user's do.
    """
    from understudy import systems
    from understudy.engine.run import Run
    from understudy.settings import RunSettings
    from understudy.systems.base import Task

    kind = systems.get(slug) if isinstance(slug, str) else slug
    given = {name.replace("__", "."): value for name, value in common.items()}
    own = {name: value for name, value in given.items() if name.partition(".")[0] not in systems.names()}
    shared = RunSettings().changed({"device": "cpu", **kind.defaults, "seed": seed, "train.steps": steps, **own})
    with TemporaryDirectory(prefix="understudy-claim-") as folder:
        task = Task(train, student, shared, Run(folder), validation, teacher, also or {}, given, reward)
        return kind(kind.Settings(**(settings or {})), task).run()


def accuracy(student: Student, samples: Samples) -> float:
    """Share of the labelled ``samples`` that ``student`` gets right, in [0, 1]."""
    from understudy import evaluate

    return evaluate.accuracy(evaluate.predict(student, samples), samples.labels).value


def solved(student: Student, samples: Samples, reward: Reward) -> float:
    """Share of the prompts of ``samples`` that a language model answers rightly, in [0, 1], taking the likeliest token each time."""
    from understudy import evaluate

    return evaluate.solved(student, samples, reward).value


def probe(student: Student, train: Samples, test: Samples) -> float:
    """Test accuracy, in [0, 1], of a linear probe on the frozen features of ``student``."""
    from understudy import evaluate

    return evaluate.linear_probe(evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels).value


def _measure(path: Path, seed: int) -> dict[str, Any]:
    """One seed, on one thread: sums in another order are other sums, and the figures must not depend on the number of cores."""
    import torch
    from threadpoolctl import threadpool_limits

    before, start = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            figures = load(path).measure(seed)
    finally:
        torch.set_num_threads(before)
    return {"seed": seed, "figures": figures, "seconds": time.perf_counter() - start}


def _measured(jobs: Sequence[tuple[Experiment, int]], workers: int) -> Iterator[tuple[Experiment, dict[str, Any] | Exception]]:
    """Each seed of each claim as it is done, or what it failed of."""
    if workers == 1:
        for one, seed in jobs:
            try:
                yield one, _measure(one.path, seed)
            except Exception as problem:
                yield one, problem
        return
    # Spawned, since torch does not survive a fork once its threads have run.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        waiting = {pool.submit(_measure, one.path, seed): one for one, seed in jobs}
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except Exception as problem:
                yield waiting[future], problem
    finally:
        pool.shutdown(cancel_futures=True)


def _target(slug: str, out: Path | str | None) -> Path | None:
    """The file that the result goes to, in a folder that is there; None for nowhere."""
    here = catalogue.claims()
    if out is None and here.parent == catalogue.PACKAGE:
        return None
    place = here / "results" if out is None else Path(out)
    target = place if place.suffix == ".json" else place / f"{slug}.json"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        open(_beside(target), "a").close()
    except OSError as problem:
        raise UserError(f"cannot write the claim's result to {target}: {problem.strerror}; choose another place with --out") from None
    return target


def _beside(target: Path) -> Path:
    """The file of finished seeds beside that of the result."""
    return target.with_suffix(".seeds.jsonl")


def _kept(target: Path | None, code: str) -> dict[int, dict[str, Any]]:
    """The seeds that the same code has finished before."""
    found: dict[int, dict[str, Any]] = {}
    for text in _beside(target).read_text(encoding="utf-8").splitlines() if target else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line.pop("code") == code:
            found[line["seed"]] = line
    return found


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sources(claim: Path) -> str:
    """Digest of the code of the claim and of its system's file: words may change, and the result stays current."""
    digest = hashlib.blake2b(digest_size=12)
    for path in (claim, *catalogue.PACKAGE.glob(f"systems/*/{claim.name}")):
        digest.update(_code(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _code(text: str) -> str:
    """A module less its docstrings, comments and empty lines: the same in every version of Python, which a dump of its syntax tree is not."""
    words: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node, clean=False) is not None:
            said = node.body[0]
            words.update(range(said.lineno, (said.end_lineno or said.lineno) + 1))
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = (line.rstrip() for number, line in enumerate(lines, 1) if number not in words)
    return "\n".join(line for line in kept if line)


def current(slug: str) -> bool:
    """Whether the kept result was made with the claim and the system file as they are now."""
    found = catalogue.result(slug)
    return found is not None and found.get("sources") == _sources(find(slug))


def _commit() -> str:
    """The commit of the checkout that the package runs from, marked dirty where files differ from it; otherwise the package's version."""
    root = catalogue.PACKAGE.parents[1]
    if not (root / ".git").exists():
        return __version__
    try:
        return subprocess.check_output(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cwd=root, text=True, stderr=subprocess.DEVNULL
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__


def _versions() -> dict[str, str]:
    import platform

    import torch

    return {"understudy": __version__, "torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
