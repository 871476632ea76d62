"""What every verb shares: settings, the folder it writes into, the data it opens, and what makes it resumable.

The order matters. Settings and folder are checked before any data are read, and nothing is written before the data, the models and the settings have been
found to fit: a mistake leaves no half-written folder behind.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from joblib import cpu_count
from pydantic import Field

from understudy import collective, keyed, models, systems
from understudy.data.found import Found
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Modality
from understudy.data.source import open_source
from understudy.engine import distribution
from understudy.engine.run import Run, owned, versions
from understudy.errors import Interrupted, UserError
from understudy.models.student import Student
from understudy.settings import Settings, parse_duration, resolve
from understudy.systems.base import Staged
from understudy.teachers.base import Teacher
from understudy.verbs.console import ConsoleListener, listener

BUDGET = "10m"
"""What a verb that trains may take, if nothing else is said."""


class Common(TypedDict, total=False):
    """What every verb takes."""

    out: str | Path | None
    """Folder for the results; otherwise runs/VERB-DATA-N."""
    seed: int | None
    set: Sequence[str]
    """Settings as ``name=value``."""
    config: str | Path | None
    """YAML file of settings."""
    quiet: bool


class Reading(Common, total=False):
    """What every verb that opens data takes."""

    text_column: str | None
    label_column: str | None
    id_column: str | None
    modality: str | None


class DataSettings(Settings):
    """How data are read."""

    size: int | None = Field(None, ge=4, description="pixels a side, or tokens, that the student sees; null: what suits the data")
    unreadable: float = Field(0.01, ge=0, le=1, description="share of the samples that may be unreadable; with more the run stops")
    memory: int = Field(2 << 30, ge=0, description="bytes of decoded images kept in memory; more are decoded again whenever they are used")


class StudentSettings(Settings):
    """What a student is built with; null: what its name says. A student has those that its kind has: ``understudy`` names them where one is wrong."""

    width: int | None = Field(None, ge=1, description="features of a token, of built-in transformers")
    depth: int | None = Field(None, ge=1, description="blocks, of built-in models")
    heads: int | None = Field(None, ge=1, description="attention heads, of built-in transformers")
    patch: int | None = Field(None, ge=1, description="pixels a side, or steps, that a token covers, of built-in transformers")
    widths: tuple[int, ...] | None = Field(None, description="channels of every stage, of built-in residual networks")
    drop_path: float | None = Field(None, ge=0, lt=1, description="probability that a sample passes a block by, of built-in transformers (1603.09382)")
    pretrained: bool | None = Field(None, description="whether a timm or hf model comes with its published weights")
    lora: int | None = Field(None, ge=1, description="rank of adapters that learn while an hf language model stays as it is (2106.09685)")

    def options(self) -> dict[str, Any]:
        """Those that were given."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.model_dump().items() if value is not None}


class Session:
    """One call of a verb."""

    def __init__(
        self,
        verb: str,
        given: Mapping[str, Any],
        options: Mapping[str, Any],
        takes: type,
        *,
        settings: Mapping[str, type[Settings]] | None = None,
        defaults: Mapping[str, Any] | None = None,
        writes: bool = True,
    ):
        """``given``: the verb's own arguments; ``options``: those of ``takes``; ``settings`` and ``defaults``: of the systems that will run.

        Raises UserError for a wrong setting and for a folder that cannot be used.
        """
        unknown = set(options) - set(takes.__annotations__)
        if unknown:
            raise TypeError(f"{verb}() got an unexpected keyword argument '{sorted(unknown)[0]}'")
        self.began = time.monotonic()
        self.verb, self.options = verb, options
        self.arguments = {name: value for name, value in {**given, **options}.items() if value is not None and name not in ("out", "quiet")}
        self.listener = listener(bool(options.get("quiet")))
        wanted = options.get("set") or ()
        overrides = [wanted] if isinstance(wanted, str) else list(wanted)
        if options.get("seed") is not None:
            overrides.append(f"seed={options['seed']}")
        if given.get("budget") is not None:
            parse_duration(given["budget"])
            overrides.append(f"train.budget={given['budget']}")
        config = options.get("config")
        self.resolved = resolve({"data": DataSettings, "student": StudentSettings, **(settings or {})}, defaults, Path(config) if config else None, overrides)
        self.settings = self.resolved.run
        self.data: DataSettings = self.resolved.of["data"]  # type: ignore[assignment]
        self.student: StudentSettings = self.resolved.of["student"]  # type: ignore[assignment]
        if not self.settings.train.steps and not self.settings.train.budget:
            self.settings = self.settings.changed({"train.budget": BUDGET})
        distribution.start(self.settings.device)
        self.quarantine = Quarantine(limit=self.data.unreadable)
        self.folder = self._folder() if writes else Path()
        self.earlier = _json(self.folder / "run.json") if writes else None
        self.found: Found | None = None

    def key(self, purpose: str) -> int:
        """The key of one purpose, such as what is held out for validation: the same in every verb."""
        return int(keyed.fold(self.settings.seed, purpose))

    @property
    def command(self) -> str:
        """The line that would do this again."""
        words = ["understudy", *self.verb.split("_")]
        for name, value in self.arguments.items():
            option = f"--{name.replace('_', '-')}"
            if name in ("data", "run", "store"):
                words.append(str(value))
            elif name == "systems":
                words += map(str, value)
            elif isinstance(value, bool):
                words += [option] if value else []
            else:
                for one in value if isinstance(value, list | tuple) else [value]:
                    words += [option, str(one)]
        return shlex.join(words)

    def read(self, data: Any, *, labels: Any = None, test: Any = None, like: Student | None = None, classes: Sequence[str] | None = None) -> Found:
        """Open data, saying what was found. ``like``: a model whose encoding and classes the data must follow."""
        columns = {name: self.options[name] for name in ("text_column", "label_column", "id_column") if self.options.get(name)}
        modality: str | Modality | None = self.options.get("modality") if like is None else like.modality
        self.listener.stage("data", str(data))
        self.found = open_source(
            data,
            labels=labels,
            test=test,
            **columns,
            modality=modality,
            classes=classes or (like.classes if like else None) or None,
            quarantine=self.quarantine,
            size=self.data.size,
            seed=self.settings.seed,
            threads=min(8, cpu_count()),
            memory_limit=self.data.memory,
            progress=self.listener.progress,
        )
        self.listener.close()
        for sentence in self.found.describe():
            self.listener.say(sentence)
        return self.found

    def read_for(self, model: str, data: Any, *, labels: Any = None, test: Any = None, headless: bool = False) -> tuple[Found, Student]:
        """Open data in the encoding that a model needs, and build the model, with a head for the data's classes unless ``headless``."""
        saved = models.load(model.removeprefix("run:")) if model.startswith("run:") else None
        found = self.read(data, labels=labels, test=test, like=saved.with_head((), 0) if saved else None)
        student = self.build(model, found.train.modality, () if headless else found.train.classes, self.key("student"))
        if student.modality.signature() != found.train.modality.signature():
            self.quarantine = Quarantine(limit=self.data.unreadable)
            found = self.read(data, labels=labels, test=test, like=student.with_head((), 0))
        return found, student.with_head((), 0) if headless else student

    def build(self, model: str, modality: Modality, classes: Sequence[str], key: int) -> Student:
        """The student that was asked for, with the options that were given."""
        return models.build(model, modality, classes, key, **self.student.options())

    def teacher(self, spec: Any, found: Found, classes: Sequence[str] | None = None, answers: bool = False) -> Teacher | None:
        """The teacher that was asked for, ready for these data; several are averaged. ``answers``: features without classes are not enough."""
        if not spec:
            return None
        one = spec[0] if isinstance(spec, list | tuple) and len(spec) == 1 else spec
        teacher = Teacher.of(one, modality=found.train.modality, classes=found.train.classes if classes is None else classes, key=self.key("teacher"))
        if answers and not teacher.offers & {"logits", "probabilities", "labels"}:
            raise UserError(
                "this teacher has features but no classifier for the classes of these data, so its answers cannot be learned: finetune it and give it as run:FOLDER"
            )
        return teacher.to(distribution.start(self.settings.device))

    @contextmanager
    def writing(self, **facts: Any) -> Iterator[Run]:
        """The run, from now on on disk. Ctrl-C inside says how to go on.

        Raises UserError where the data of a run that is gone on with are no longer the same.
        """
        prints = (
            {name: samples.fingerprint for name, samples in (("data", self.found.train), ("test", self.found.test)) if samples is not None}
            if self.found
            else {}
        )
        if self.earlier is not None and self.earlier["fingerprints"] != prints:
            raise UserError(f"the data have changed since the run in {self.folder} began: start a new one with another --out")
        run = Run(self.folder, self.listener)
        try:
            with owned(self.folder) if collective.rank() == 0 else nullcontext():
                if self.earlier is None:
                    about = {
                        "verb": self.verb,
                        "arguments": _plain(self.arguments),
                        "objects": _objects(self.arguments),
                        "cwd": os.getcwd(),
                        "command": self.command,
                    }
                    found = {"found": asdict(self.found.facts)} if self.found else {}
                    run.write("run.json", {**about, "settings": self.resolved.to_json(), "versions": versions(), "fingerprints": prints, **found, **facts})
                else:
                    self.listener.say(f"going on with the run in {self.folder}")
                if collective.rank() == 0:
                    set_aside = "".join(json.dumps({"path": path, "reason": reason}) + "\n" for path, reason in self.quarantine.rows)
                    (self.folder / "quarantine.jsonl").write_text(set_aside, encoding="utf-8")
                yield run
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; go on with: understudy resume {self.folder}") from None
        except UserError:
            self._leave_nothing()
            raise
        finally:
            self.listener.close()

    def _leave_nothing(self) -> None:
        """Take a run away that was refused before it had begun to work."""
        worked = any(next(self.folder.glob(name), None) for name in ("checkpoints", "stages", "labels", "shard-*", "*/seed-*", "seed-*"))
        if self.earlier is not None or worked or collective.rank() != 0 or not self.folder.exists():
            return
        for name in ("run.json", "quarantine.jsonl", ".lock"):
            (self.folder / name).unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Write what a verb that makes no run found out to ``--out``, if that was given."""
        if self.options.get("out") is not None and collective.rank() == 0:
            Run(Path(self.options["out"])).write(f"{self.verb}.json", answer)

    def time_for(self, reserved: float) -> dict[str, str]:
        """What training may take so that the whole verb keeps to its budget, ``reserved`` seconds being needed afterwards. Empty where steps are given."""
        train = self.settings.train
        if train.steps or not train.budget:
            return {}
        if self.earlier is not None:
            return {"train.budget": self.earlier["training"]}
        whole = parse_duration(train.budget)
        if isinstance(self.listener, ConsoleListener):
            self.listener.ends = self.began + whole
        return {"train.budget": f"{max(0.4 * whole, whole - (time.monotonic() - self.began) - reserved):.1f}"}

    def _folder(self) -> Path:
        """Where to write. Raises UserError for a folder that holds something else, or cannot be written."""
        out = self.options.get("out")
        if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("several processes write into one folder; name it with --out")
        if out is None:
            name = next((Path(str(self.arguments[a])).stem for a in ("data", "run") if a in self.arguments), "")
            stem = "-".join(part for part in (self.verb, name) if part)
            out = next(p for n in range(1, 10**6) if not (p := Path("runs") / f"{stem}-{n}").exists())
        folder = Path(out)
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        if not there.is_dir():
            raise UserError(f"{there} is a file, so no run can be written to {folder}; choose another folder with --out")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"there is no permission to write to {there}; choose another folder with --out")
        if not folder.exists():
            return folder
        if (folder / "result.json").exists():
            raise UserError(f"{folder} holds a finished run; choose another folder with --out, or see it with: understudy report {folder}")
        earlier = _json(folder / "run.json")
        if earlier is None and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise UserError(f"{folder} is not empty and holds no run; choose another folder with --out")
        if earlier is not None and (earlier["verb"], earlier["arguments"]) != (self.verb, _plain(self.arguments)):
            raise UserError(
                f"{folder} holds an unfinished run of other arguments; go on with it by: understudy resume {folder}, or choose another folder with --out"
            )
        return folder


def refuse_settings(verb: str, options: Mapping[str, Any], also: Sequence[str] = ()) -> None:
    """Raise UserError where a verb that has no settings, and none of ``also``, is given some."""
    for name in ("set", "config", *also):
        if options.get(name) is not None and options[name] != []:
            raise UserError(f"{verb} takes no --{name}: what it works on has its settings already")


def settings_of(slug: str) -> dict[str, type[Settings]]:
    """The settings that a run of the system ``slug`` understands: its own, and those of all systems where it runs others as stages."""
    kind = systems.get(slug)
    return all_settings() if issubclass(kind, Staged) else {slug: kind.Settings}


def all_settings() -> dict[str, type[Settings]]:
    """The settings of every system."""
    return {slug: systems.get(slug).Settings for slug in systems.names()}


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as JSON gives them back."""
    plain: dict[str, Any] = json.loads(
        json.dumps(dict(arguments), default=lambda value: str(value) if isinstance(value, Path) else f"<{type(value).__name__}>")
    )
    return plain


def _objects(arguments: Mapping[str, Any]) -> list[str]:
    """Names of the arguments that only Python can give: such a run cannot be resumed from the command line."""
    flat = [(name, one) for name, value in arguments.items() for one in (value if isinstance(value, list | tuple) else [value])]
    return sorted({name for name, one in flat if not isinstance(one, str | int | float | bool | Path)})
