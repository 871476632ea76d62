"""The command line: every verb with its options, one place for errors.

A command is declared by a function whose parameters are its own options; ``@command`` adds those that every verb has and calls the verb of the same name
in Python with the options as keyword arguments (only those that were given, except ``quiet``). A verb tells what it does on standard error and returns an
object with ``to_json()``; what that object prints as (``__rich__`` or ``__str__``) goes to standard output, and under ``--json`` to standard error.

Nothing heavy is imported before a verb runs: ``understudy --help`` and ``understudy systems`` start in a fraction of a second.
"""

from __future__ import annotations

import errno
import inspect
import json as jsonlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import understudy
from understudy.errors import Interrupted, UserError


class Verbs(TyperGroup):
    """The verbs; ``label verify`` is one of two words."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, ["label verify", *args[2:]] if args[:2] == ["label", "verify"] else args)


app = typer.Typer(
    cls=Verbs, add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
    help="Train models from teachers instead of labels.", epilog="Start with: understudy demo",
)  # fmt: skip

# Options of more than one verb.
Data = Annotated[Path, typer.Argument(metavar="DATA", help="Folder of images or sounds, CSV, JSONL or Parquet file, or a Hugging Face datasets folder.")]
MaybeData = Annotated[Path | None, typer.Argument(metavar="[DATA]", help="Data as for fit.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE", help="CSV of path or row id, label. Without it: names of folders, or the label column.")]
Test = Annotated[Path | None, typer.Option(metavar="DATA", help="Labelled data, looked at once, at the end.")]
MODELS = "auto, small-resnet, small-vit, small-text, small-table, small-series, small-audio, timm:NAME, hf:NAME or run:FOLDER."
TEACHERS = "timm:NAME, hf:NAME, run:FOLDER, labels:FOLDER, annotations:FILE or http://SERVER; several make an ensemble."
Student = Annotated[str | None, typer.Option("--student", "--model", metavar="MODEL", help=MODELS)]
Teacher = Annotated[list[str] | None, typer.Option(metavar="TEACHER", help=TEACHERS)]
System = Annotated[str | None, typer.Option(metavar="NAME", help="The method, see: understudy systems --status works.")]
Budget = Annotated[str | None, typer.Option(metavar="TIME", help="Time to spend, as 90s, 10m or 1h.")]
TextColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column that holds the text; text if there is one. Two, as in first,second, hold pairs of texts.")
]
LabelColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column that holds the label, empty where there is none; label if there is one.")]
IdColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column that names a row; otherwise its number does.")]
Modality = Annotated[str | None, typer.Option(metavar="NAME", help="image, text, table, series, audio ..., if it cannot be seen from the data.")]

# Options of every verb.
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Where results go.", rich_help_panel="Every verb")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Key of everything random.", rich_help_panel="Every verb")]
Set = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Change a setting, such as optim.lr=3e-4; repeatable.", rich_help_panel="Every verb")]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Settings from a YAML file; --set goes before it.", rich_help_panel="Every verb")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output, all else on standard error.", rich_help_panel="Every verb")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.", rich_help_panel="Every verb")]
COMMON = {"out": Out, "seed": Seed, "set": Set, "config": Config, "json": Json, "quiet": Quiet}


def command(example: str, name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a verb's declaration a command; ``example`` is a line that works."""

    def declare(declaration: Callable[..., Any]) -> Callable[..., Any]:
        verb = declaration.__name__

        def run(**options: Any) -> None:
            _run(verb, **options)

        own = inspect.signature(declaration, eval_str=True).parameters
        default: dict[str, Any] = {"json": False, "quiet": False}
        added = {n: inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=default.get(n), annotation=a) for n, a in COMMON.items() if n not in own}
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.values()] + [*added.values()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(name or verb, help=declaration.__doc__, epilog=f"Example: {example}")(run)
        return declaration

    return declare


@app.callback(invoke_without_command=True)
def _top(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False) -> None:
    if version:
        print(understudy.__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@command("understudy fit photos/ --labels labels.csv --budget 10m --out run")
def fit(
    data: Data, *, labels: Labels = None, test: Test = None, student: Student = None, teacher: Teacher = None, budget: Budget = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Get a good model out of much data and few labels, measured against labels alone."""


@command("understudy pretrain scans/ --model small-vit --system sdfp --out run")
def pretrain(
    data: Data, *, system: System = None, student: Student = None, budget: Budget = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Train a backbone on data without labels."""


@command("understudy distill photos/ --teacher run:big --student small-resnet --out run")
def distill(
    data: Data, *, teacher: Teacher = None,
    student: Annotated[list[str] | None, typer.Option("--student", "--model", metavar="MODEL", help=f"{MODELS} Several learn from one pass of the teacher.")] = None,
    system: System = None, labels: Labels = None, test: Test = None, budget: Budget = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Train a small model to answer as a big one does."""


@command("understudy label photos/ --teacher run:big --codec soft --out labels")
def label(
    data: Data, *, teacher: Teacher = None,
    codec: Annotated[str | None, typer.Option(metavar="KIND", help="What is kept: hard, soft, topk or features; of a language model's tokens topk or draws.")] = None,
    view: Annotated[str | None, typer.Option(metavar="NAME", help="Which view the teacher sees: plain, weak, strong ...")] = None,
    views: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many views of every sample.")] = None,
    engine: Annotated[str | None, typer.Option(metavar="KIND", help="Where: local, or ray for the cluster that RAY_ADDRESS names.")] = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Store a teacher's answers on disk, resumable; see also: understudy label verify."""


@command("understudy label verify labels photos/ --teacher run:big", name="label verify")
def label_verify(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder that label wrote.")], data: Data, *, teacher: Teacher = None,
    samples: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many samples to ask the teacher for again.")] = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Ask the teacher again for a random part of a label store and compare."""


@command("understudy selftrain reviews.csv --system curriculum-labeling --out run")
def selftrain(
    data: Data, *, system: System = None, student: Student = None, labels: Labels = None, test: Test = None, budget: Budget = None,
    verifier: Annotated[Path | None, typer.Option(metavar="FILE", help="Python file that checks a proposal.")] = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Let a model label what has no label and learn from what it is sure of, round after round."""


@command("understudy adapt run stream/ --system rmt --out adapted")
def adapt(
    run: RunFolder, data: Data, *, system: System = None, labels: Labels = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Predict on data that pass once and let the model follow them."""


@command("understudy finetune photos/ --labels labels.csv --model run:pretrained --out run")
def finetune(
    data: Data, *, labels: Labels = None, test: Test = None, student: Student = None, budget: Budget = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Train on the labels alone: the control of everything else."""


@command("understudy evaluate run test/ --measure knn --measure calibration --json")
def evaluate(
    run: RunFolder, data: Data, *, labels: Labels = None, teacher: Teacher = None,
    measure: Annotated[list[str] | None, typer.Option(metavar="NAME", help="accuracy, knn, linear, few-shot, rankme, calibration ...; repeatable.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A sentence with {} for a class, such as 'a photo of a {}': names are the classifier; repeatable.")] = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Measure a model: accuracy, probes of its features, calibration, fidelity to a teacher."""


@command("understudy compare dinov2 barlow-twins mae --data photos/ --seeds 3 --out table")
def compare(
    systems: Annotated[list[str], typer.Argument(metavar="NAME...", help="Systems to compare.")], *,
    data: Annotated[Path, typer.Option(metavar="DATA", help="Data as for fit.")],
    labels: Labels = None, test: Test = None, student: Student = None, teacher: Teacher = None, budget: Budget = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many seeds, the same for all.")] = None,
    text_column: TextColumn = None, label_column: LabelColumn = None, id_column: IdColumn = None, modality: Modality = None,
) -> None:  # fmt: skip
    """Run several systems on the same data with the same student, time and seeds."""


@command("understudy claim ps-kd --seeds 5")
def claim(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A system, see: understudy systems --status works.")] = None, *,
    all: Annotated[bool, typer.Option("--all", help="The claims of all systems.")] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Of all, those without a result, or with one older than the claim or its system.")] = False,
    seeds: Annotated[int | None, typer.Option(min=2, metavar="N", help="How many paired seeds.")] = None,
    first_seed: Annotated[int | None, typer.Option(metavar="N", help="The first of them; --seed is the same.")] = None,
) -> None:  # fmt: skip
    """Re-run the claim of a system's paper, with its controls, and give a verdict."""


@command("understudy systems --family ssl-masked --modality image")
def systems(
    word: Annotated[str | None, typer.Argument(metavar="[WORD]", help="Part of a name, title or mechanism.")] = None, *,
    family: Annotated[str | None, typer.Option(metavar="F", help="Only this family.")] = None,
    modality: Annotated[str | None, typer.Option(metavar="M", help="Only this modality.")] = None,
    status: Annotated[str | None, typer.Option(metavar="S", help="Only this status: absent, works, shown, contrary or unclear.")] = None,
) -> None:  # fmt: skip
    """List the catalogue of methods and how far each is."""


@command("understudy explain barlow-twins")
def explain(name: Annotated[str, typer.Argument(metavar="NAME", help="Name or id of a system.")]) -> None:
    """Tell a system's idea, equations, settings with sources, paper and claim result."""


@command("understudy export run --format onnx --out exported")
def export(
    run: RunFolder, *,
    format: Annotated[list[str] | None, typer.Option(metavar="KIND", help="onnx, timm or transformers; repeatable.")] = None,
) -> None:  # fmt: skip
    """Write a run's model in a form that others load."""


@command("understudy report run")
def report(run: RunFolder) -> None:
    """Write the HTML report of a run: one file that opens offline."""


@command("understudy resume run")
def resume(run: RunFolder) -> None:
    """Go on with a run that was stopped or killed."""


@command("understudy doctor")
def doctor(
    data: MaybeData = None, *,
    distill: Annotated[bool, typer.Option("--distill", help="Time student, teacher and stored labels on DATA, and say from how many epochs on storing pays.")] = False,
    teacher: Teacher = None, student: Student = None,
    views: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many views of every sample would be stored.")] = None,
) -> None:  # fmt: skip
    """Check this machine, the installed libraries and, if given, the data."""


@command("understudy demo --text")
def demo(*, text: Annotated[bool, typer.Option("--text", help="On text instead of images.")] = False) -> None:
    """See it work on real data that is already here: few labels against few labels and a teacher."""


def _run(verb: str, *, json: bool, quiet: bool, **options: Any) -> None:
    """Call a verb and show what it returns."""
    given = {name: value for name, value in options.items() if value is not None}
    if verb == "claim" and "seed" in given:
        given.setdefault("first_seed", given.pop("seed"))
    # Verbs that only read have no use for some options of every verb: there is nothing random in a list.
    reading = verb in ("systems", "explain")
    out = given.pop("out", None) if reading else None
    try:
        function = understudy.verb(verb)
        if reading:
            takes = inspect.signature(function).parameters
            given = {name: value for name, value in given.items() if name in takes}
        else:
            given["quiet"] = quiet
        result = function(**given)
    except KeyboardInterrupt:
        where = given.get("out") or given.get("run") or "RUN"
        raise Interrupted(f"stopped; if training had begun, go on from its last checkpoint with: understudy resume {where}") from None
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{verb}.json").write_text(_json(result), encoding="utf-8")
    if json:
        print(_json(result))
    if not quiet and not (json and reading):
        _show(result, sys.stderr if json else sys.stdout)
    # A reader that left early (| head) is noticed here, where it can still be passed over in silence.
    sys.stdout.flush()


def _json(result: Any) -> str:
    return jsonlib.dumps(result.to_json(), indent=1, ensure_ascii=False, default=str)


def _show(result: Any, file: Any) -> None:
    if hasattr(result, "__rich__"):
        from rich.console import Console

        Console(file=file, highlight=False).print(result)
    else:
        print(result, file=file)


def main(arguments: list[str] | None = None) -> None:
    """The entry point: exit code 0, 2 for a user's mistake, 130 after Ctrl-C; a traceback only for a mistake of ours."""
    try:
        code = app(arguments, prog_name="understudy", standalone_mode=False)
    except Interrupted as stopped:
        _leave(str(stopped), stopped.exit_code)
    except UserError as mistake:
        _leave("\n".join(f"error: {line}" for line in str(mistake).splitlines()), mistake.exit_code)
    except typer.TyperException as mistake:
        context = getattr(mistake, "ctx", None)
        _leave(f"error: {mistake.format_message()} See: {context.command_path if context else 'understudy'} --help", mistake.exit_code)
    except OSError as problem:
        said = _sentence(problem)
        if said is None:
            raise
        _leave(f"error: {said}", UserError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _sentence(problem: OSError) -> str | None:
    """What a full disk or a missing permission means to a person; None for problems that only a mistake of ours can bring about."""
    where = problem.filename or "a file"
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full (writing {where}); free some space or choose another folder with --out; what was finished before stays usable"
    if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to use {where}; change its permissions or choose another folder with --out"
    return None


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
