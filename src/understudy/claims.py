"""Claims: the smallest honest experiment of a paper, run again by anyone, with controls, over paired seeds.

``claims/<slug>.py`` (dashes as underscores) defines ``claim = Claim(...)``; ``claims/README.md`` says how to write one. What a run found is kept in
``claims/results/<slug>.json``, whichever way it falls.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    from understudy.systems.base import Outcome
    from understudy.teachers.base import Teacher

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


def run_claim(
    slug: str, seeds: int = 5, first_seed: int = 0, out: Path | str | None = None, workers: int = 1, listener: Listener | None = None
) -> dict[str, Any]:
    """Run the claim of a system over paired seeds, and judge it.

    The result is written to ``out`` (a folder, or a file that ends in .json); without it to ``claims/results`` of the checkout, or nowhere if there is none.
    Each finished seed is kept beside it at once: a run that was stopped goes on from there, as long as neither the package nor the claim has changed.
    ``workers`` seeds run at a time, each on one thread, so that the figures do not depend on how many there are.
    Raises UserError for an unknown claim, too few seeds, or a place that cannot be written.
    """
    from understudy.engine.run import Listener, write_atomically

    if seeds < 2:
        raise UserError(f"a claim compares pairs over several seeds, and {seeds} is not enough; use --seeds 5")
    path = find(slug)
    claim, listener, code = load(path), listener or Listener(), _digest(path)
    target = _target(slug, out)
    beside = target.with_suffix(".seeds.jsonl") if target else None
    wanted = range(first_seed, first_seed + seeds)
    done = {seed: line for seed, line in _kept(beside, code).items() if seed in wanted}
    listener.stage(slug, claim.says)
    listener.say(f"{claim.data or slug}: {seeds} seeds, about {claim.minutes_budget * seeds / 5:.0f} minutes, {len(done)} of them done before")
    for line in _measured(path, [seed for seed in wanted if seed not in done], workers):
        done[line["seed"]] = line
        if beside:
            with open(beside, "a", encoding="utf-8") as file:
                # A line of its own even where a kill cut the last one short.
                file.write("\n" + json.dumps({"code": code, **line}))
        listener.progress(len(done), seeds, **line["figures"])
    figures = {name: [done[seed]["figures"][name] for seed in wanted] for name in done[first_seed]["figures"]}
    result = {
        "system": slug, **claim.judge(figures), "seeds": seeds, "arms": figures,
        "minutes": round(sum(line["seconds"] for line in done.values()) / 60, 2), "commit": _commit(),
        "says": claim.says, "treatment": claim.effect[0], "control": claim.effect[1], "first_seed": first_seed, "data": claim.data, "versions": _versions(),
    }  # fmt: skip
    if target and beside:
        write_atomically(target, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        beside.unlink(missing_ok=True)
    return result


def learn(
    slug: str, student: Student, train: Samples, *, seed: int, steps: int | None = None, teacher: Teacher | None = None, validation: Samples | None = None,
    also: Mapping[str, Samples] | None = None, settings: Mapping[str, Any] | None = None, **common: Any,
) -> Outcome:  # fmt: skip
    """Run the system ``slug`` from ``student`` in a folder that is gone afterwards; on the CPU, so that kept results compare.

    ``steps``: of the optimiser; a system that follows a stream takes none. ``also``: further samples by the name that the system reads them under.
    ``settings``: those of the system by name; ``common``: common settings by dotted name with ``__`` for the dot (``optim__lr=1e-3``);
    they win over the defaults of every stage, as a user's do.
    """
    from understudy import systems
    from understudy.engine.run import Run
    from understudy.settings import RunSettings
    from understudy.systems.base import Task

    kind = systems.get(slug)
    given = {name.replace("__", "."): value for name, value in common.items()}
    shared = RunSettings().changed({"device": "cpu", **kind.defaults, "seed": seed, "train.steps": steps, **given})
    with TemporaryDirectory(prefix="understudy-claim-") as folder:
        task = Task(train, student, shared, Run(folder), validation, teacher, also or {}, given)
        return kind(kind.Settings(**(settings or {})), task).run()


def accuracy(student: Student, samples: Samples) -> float:
    """Share of the labelled ``samples`` that ``student`` gets right, in [0, 1]."""
    from understudy import evaluate

    return evaluate.accuracy(evaluate.predict(student, samples), samples.labels).value


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


def _measured(path: Path, seeds: Sequence[int], workers: int) -> Iterator[dict[str, Any]]:
    """Each seed as it is done."""
    if workers == 1:
        yield from (_measure(path, seed) for seed in seeds)
        return
    # Spawned, since torch does not survive a fork once its threads have run.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        for future in as_completed([pool.submit(_measure, path, seed) for seed in seeds]):
            yield future.result()
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
        open(target.with_suffix(".seeds.jsonl"), "a").close()
    except OSError as problem:
        raise UserError(f"cannot write the claim's result to {target}: {problem.strerror}; choose another place with --out") from None
    return target


def _kept(beside: Path | None, code: str) -> dict[int, dict[str, Any]]:
    """The seeds that the same code has finished before."""
    found: dict[int, dict[str, Any]] = {}
    for text in beside.read_text(encoding="utf-8").splitlines() if beside else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if line.pop("code") == code:
            found[line["seed"]] = line
    return found


def _digest(claim: Path) -> str:
    """Of everything that decides what a seed gives: the package's source and the claim's."""
    digest = hashlib.blake2b(digest_size=12)
    for path in [*sorted(catalogue.PACKAGE.rglob("*.py")), claim]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


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
