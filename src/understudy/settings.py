"""Settings: pydantic models with dotted names, put together from defaults, a YAML file and ``--set``, and checked all at once.

A name is a path of fields: ``optim.lr`` is common to every system, ``sdfp.weight`` belongs to one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from understudy import nearest
from understudy.errors import ConfigErrors, UserError


def parse_duration(text: str | float) -> float:
    """Seconds in ``90s``, ``10m``, ``1h``, ``1h30m`` or a bare number of seconds. Raises UserError for anything else and for zero."""
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", str(text).strip())
    seconds = sum(float(n or 0) * s for n, s in zip(found.groups(), (3600, 60, 1), strict=True)) if found else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(f"'{text}' is no duration; write it as 90s, 10m, 1h or 1h30m")
    return seconds


def _duration(value: Any) -> Any:
    if isinstance(value, str | int | float):
        try:
            parse_duration(value)
        except UserError as problem:
            raise ValueError(str(problem)) from None
        return str(value)
    return value


Duration = Annotated[str, BeforeValidator(_duration)]
"""Text that ``parse_duration`` reads."""


class Settings(BaseModel):
    """Base of all settings. Every field has a description that names its unit and its source; a wrong name or value is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and not _admits_bool(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("true and false are no value for this")
        return value

    def changed(self, dotted: Mapping[str, Any]) -> Self:
        """A copy with other values, by dotted name. Raises ConfigErrors."""
        problems = _unknown(dict.fromkeys(dotted, "code"), leaves(type(self)))
        if problems:
            raise ConfigErrors(problems)
        built = _build(type(self), {**self.flat(), **dotted}, "", dict.fromkeys(dotted, "code"), problems)
        if built is None:
            raise ConfigErrors(problems)
        return built  # type: ignore[return-value]

    def flat(self) -> dict[str, Any]:
        """All values by dotted name."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            values |= {f"{name}.{k}": v for k, v in value.flat().items()} if isinstance(value, Settings) else {name: value}
        return values


class TrainSettings(Settings):
    steps: int | None = Field(None, ge=1, description="steps of the optimiser; null: as many as fit into train.budget, and a minute without one")
    batch: int = Field(128, ge=1, description="samples a step, over all processes and accumulated parts together")
    budget: Duration | None = Field(
        None, description="time to train for, as 90s, 10m or 1h, turned into steps after the first few are timed; train.steps goes before it"
    )
    accumulate: int = Field(
        1, ge=1, description="parts that a process cuts its share of the batch into, one after another, to save memory; the loss stays the same"
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="arithmetic of the models: float32, or bf16 under autocast (weights and losses stay float32)"
    )
    compile: bool = Field(False, description="compile the heavy modules with torch.compile")
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="how several processes share the work: ddp copies the model, fsdp shards it; auto is ddp"
    )


class OptimSettings(Settings):
    name: Literal["adamw", "sgd", "lars"] = Field("adamw", description="optimiser: AdamW (1711.05101), SGD with momentum, or LARS (1708.03888)")
    lr: float = Field(
        1e-3,
        gt=0,
        description="peak learning rate, at the batch given: it is not rescaled by anything. Not set: the system's own, or where it has none 3e-3 for residual networks "
        "and 1e-3 for others; with AdamW at most 1e-4 for published weights",
    )
    weight_decay: float = Field(0.05, ge=0, description="decoupled for AdamW (1711.05101), added to the gradient for SGD and LARS; never on biases and norms")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the mean of the gradients, per step (1412.6980, algorithm 1)")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW: decay of the mean of their squares, per step (1412.6980, algorithm 1)")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD and LARS: decay of the velocity, per step")
    nesterov: bool = Field(False, description="SGD: look ahead along the velocity")
    clip: float | None = Field(None, gt=0, description="largest norm of the whole gradient, scaled down beyond it (1211.5063, algorithm 1); null: never")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps over which the rate rises linearly from zero (1706.02677, section 2.2)")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="how the rate falls after the warm-up: half a cosine (1608.03983), a line, or not"
    )
    final: float = Field(0.0, ge=0, le=1, description="rate at the last step, as a share of optim.lr")
    layer_decay: float = Field(1.0, gt=0, le=1, description="rate of a layer as a share of the layer above it (2003.10555, table 6); 1: all alike")


class CheckpointSettings(Settings):
    every: int | None = Field(None, ge=1, description="steps from one checkpoint to the next; null: once a minute")
    keep: int = Field(2, ge=1, description="how many of the newest checkpoints stay on disk")


class WatchSettings(Settings):
    every: int = Field(20, ge=1, description="steps from one look at the features and targets to the next, and from one line of metrics.jsonl to the next")
    spike: float = Field(
        4.0,
        gt=1,
        description="a loss this many times the median of the last 50, and above a fifth of that of the first 50, counts as a spike (2204.02311, section 5.1, is why one goes back)",
    )
    patience: int = Field(3, ge=1, description="how many looks in a row must be bad before the watch acts; a single step that is not finite is skipped at once")
    rollbacks: int = Field(3, ge=0, description="how often action auto goes back to the last good checkpoint, with half the rate, before it stops the run")
    action: Literal["auto", "skip", "rollback", "stop", "off"] = Field(
        "auto",
        description="on NaN, spikes and collapse: skip the batch, roll back, stop, always the same; auto chooses, from mild to hard; off does nothing",
    )


class RunSettings(Settings):
    """What every system shares."""

    seed: int = Field(0, ge=0, lt=2**63, description="key of everything random; the same seed gives the same run")
    device: str = Field("auto", description="cpu, cuda, cuda:N, or auto: cuda where there is one")
    train: TrainSettings = TrainSettings()
    optim: OptimSettings = OptimSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    watch: WatchSettings = WatchSettings()


@dataclass(frozen=True)
class Resolved:
    """The settings of a run: the common ones and those of each system by slug."""

    run: RunSettings
    of: dict[str, Settings]
    chosen: dict[str, Any]
    """What the user set, in the file or with ``--set``, by dotted name; it wins over whatever the stages of a plan bring along."""

    def to_json(self) -> dict[str, Any]:
        """Everything as nested JSON; written as YAML it resolves to the same settings again."""
        return self.run.model_dump(mode="json") | {slug: settings.model_dump(mode="json") for slug, settings in self.of.items()}


class Setting(NamedTuple):
    """A setting as a person reads it."""

    name: str
    type: str
    default: Any
    description: str


def leaves(kind: type[Settings], prefix: str = "") -> dict[str, FieldInfo]:
    """Every field that holds a value, by dotted name, sections opened up."""
    found: dict[str, FieldInfo] = {}
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            found |= leaves(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def explain(kind: type[Settings], prefix: str = "") -> list[Setting]:
    """What can be set, with type, default and description."""
    return [
        Setting(name, _type_name(f.annotation), "required" if f.is_required() else f.get_default(call_default_factory=True), f.description or "")
        for name, f in leaves(kind, prefix).items()
    ]


def resolve(
    systems: Mapping[str, type[Settings]], defaults: Mapping[str, Any] | None = None, file: Path | None = None, overrides: Sequence[str] = ()
) -> Resolved:
    """Settings from ``defaults`` (by dotted name), then the YAML ``file``, then ``overrides`` (``name=value``); later ones win.

    Raises ConfigErrors with one sentence for every unknown name and every value that does not fit, the nearest valid name in it.
    """
    known = leaves(RunSettings)
    for slug, kind in systems.items():
        known |= leaves(kind, f"{slug}.")
    problems: list[str] = []
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    sources = [("the defaults", dict(defaults or {})), (str(file), _from_file(file, known, problems)), ("--set", _from_overrides(overrides, problems))]
    for origin, given in sources:
        problems += _unknown(dict.fromkeys(given, origin), known)
        values |= given
        origins |= dict.fromkeys(given, origin)
    values = {name: value for name, value in values.items() if name in known}
    own = {slug: {k.removeprefix(f"{slug}."): v for k, v in values.items() if k.startswith(f"{slug}.")} for slug in systems}
    common = {k: v for k, v in values.items() if k.partition(".")[0] not in systems}
    run = _build(RunSettings, common, "", origins, problems)
    of = {slug: _build(kind, own[slug], f"{slug}.", origins, problems) for slug, kind in systems.items()}
    if problems:
        raise ConfigErrors(problems)
    assert isinstance(run, RunSettings)
    chosen = {k: v for k, v in values.items() if origins[k] != "the defaults"}
    return Resolved(run, {slug: settings for slug, settings in of.items() if settings is not None}, chosen)


class _Loader(yaml.SafeLoader):
    """YAML whose plain scalars mean what they look like: ``3e-4`` is a number, ``off`` and ``no`` are words, ``1:30`` and dates are text (YAML 1.2, 10.3.2)."""

    yaml_implicit_resolvers: dict[str, Any] = {}


for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(?:0|[1-9][0-9]*)",
    "float": r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
}.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), None)


def _from_file(path: Path | None, known: Iterable[str], problems: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as problem:
        problems.append(f"cannot read the settings file {path}: {problem.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        problems.append(f"{path} is not YAML: {' '.join(str(problem).split())}")
    else:
        if isinstance(content, dict):
            return _flattened(content, "", {name.rpartition(".")[0] for name in known})
        if content is not None:
            problems.append(f"{path} must hold names and values, such as 'optim: {{lr: 3e-4}}', and holds {type(content).__name__}")
    return {}


def _flattened(content: Mapping[Any, Any], prefix: str, sections: set[str]) -> dict[str, Any]:
    """Nested mappings by dotted name; a mapping that is itself a value stays whole."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        inside = isinstance(value, dict) and any(s == name or s.startswith(f"{name}.") for s in sections)
        flat |= _flattened(value, f"{name}.", sections) if inside else {name: value}
    return flat


def _from_overrides(overrides: Sequence[str], problems: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            problems.append(f"--set takes name=value, such as optim.lr=3e-4, and got '{text}'")
            continue
        try:
            values[name.strip()] = yaml.load(value, Loader=_Loader)
        except yaml.YAMLError:
            problems.append(f"the value in --set {text} is not YAML; put quotes around it")
    return values


def _unknown(given: Mapping[str, str], known: Mapping[str, FieldInfo]) -> list[str]:
    """A sentence for each name that is no setting; ``given`` maps names to where they come from."""
    problems = []
    for name, origin in given.items():
        if name in known:
            continue
        inside = [k for k in known if k.startswith(f"{name}.")]
        section = [k for k in known if k.startswith(f"{name.partition('.')[0]}.")]
        if inside:
            problems.append(f"'{name}' (from {origin}) is a section; set one of {', '.join(inside)}")
        else:
            there = ", ".join(section or dict.fromkeys(k.partition(".")[0] for k in known))
            problems.append(f"no setting '{name}' (from {origin}); {nearest.hint(name, known, f'there is {there}')}")
    return problems


def _build(kind: type[Settings], flat: Mapping[str, Any], prefix: str, origins: Mapping[str, str], problems: list[str]) -> Settings | None:
    """An instance from values by dotted name, or None and a sentence in ``problems`` for every value that does not fit."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *sections, last = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    try:
        return kind.model_validate(nested)
    except ValidationError as error:
        for item in error.errors():
            path = [str(part) for part in item["loc"]]
            name = next((n for n in (".".join(path[:k]) for k in range(len(path), 0, -1)) if n in flat), ".".join(path))
            problems.append(_sentence(prefix + name, item["type"], item["msg"], flat.get(name), origins.get(prefix + name)))
        return None


def _sentence(name: str, kind: str, message: str, value: Any, origin: str | None) -> str:
    source = f" (from {origin})" if origin else ""
    if kind == "missing":
        return f"{name} must be given, for instance with --set {name}=..."
    if kind == "value_error":
        return f"{name}: {message.removeprefix('Value error, ')}{source}"
    told = message.replace("Input should", f"{name} should") if message.startswith("Input should") else f"{name}: {message}"
    near = nearest.names(str(value), re.findall(r"'([^']+)'", message)) if kind == "literal_error" else []
    return f"{told}, not {'null' if value is None else repr(value)}{source}" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _admits_bool(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(_admits_bool(a) for a in get_args(annotation) if not isinstance(a, str | int))


def _type_name(annotation: Any) -> str:
    """``float | null``, ``cosine | linear``, ``tuple[int, ...]``."""
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is Annotated:
        return _type_name(inner[0])
    if outer is Literal or outer in (Union, UnionType):
        return " | ".join(_type_name(a) for a in inner)
    if inner:
        return f"{outer.__name__}[{', '.join(_type_name(a) for a in inner)}]"
    if annotation is ...:
        return "..."
    return "null" if annotation is NoneType else str(getattr(annotation, "__name__", annotation))
