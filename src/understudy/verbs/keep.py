"""The verbs around a run: ``resume``, ``report``, ``export``, ``doctor``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Unpack

import torch
from joblib import cpu_count
from rich.markup import escape

from understudy import models
from understudy import report as reports
from understudy.data import known
from understudy.engine import distribution
from understudy.engine.run import Run, versions
from understudy.errors import UserError
from understudy.report.page import duration, size
from understudy.verbs import exporting, saving
from understudy.verbs.console import listener
from understudy.verbs.result import Result, Trained, facts
from understudy.verbs.session import Common, Reading, Session, refuse_settings

EXTRAS = {
    "vision": ("timm", "torchvision"),
    "text": ("transformers", "datasets"),
    "audio": ("soundfile",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
}


def resume(run: str | Path, **options: Unpack[Common]) -> Result:
    """Go on with a run where it was stopped: the same verb with the same arguments; what is finished is not done again."""
    from understudy import verbs
    from understudy.verbs import several

    folder = Path(run).absolute()
    about = Run(folder).read("run.json") if folder.is_dir() else None
    if about is None:
        raise UserError(f"there is no run to resume in {run}: it has no run.json")
    refuse_settings("resume", options, ("seed", "out"))
    finished = Run(folder).read("result.json")
    if finished is not None:
        listener(bool(options.get("quiet"))).say(f"{run} is finished: there is nothing left to do")
        if "students" in finished:
            return Result(finished, folder, [several.shown(finished)])
        return Trained(finished, folder) if "stages" in finished else Result(finished, folder, [facts(finished)])
    if about["objects"]:
        given, verb = ", ".join(about["objects"]), about["verb"]
        raise UserError(f"the run in {run} was given {given} as a Python object: call us.{verb}(...) again with the same arguments and out='{run}'")
    with contextlib.chdir(about["cwd"]) if Path(about["cwd"]).is_dir() else contextlib.nullcontext():
        result: Result = getattr(verbs, about["verb"])(**about["arguments"], out=folder, quiet=bool(options.get("quiet")))
    return result


def report(run: str | Path, **options: Unpack[Common]) -> Result:
    """Write the page of a run again from what the run kept."""
    refuse_settings("report", options)
    page = reports.rebuild(Path(run))
    if options.get("out") is not None:
        target = Path(str(options["out"]))
        target = target / page.name if target.is_dir() or not target.suffix else target
        target.parent.mkdir(parents=True, exist_ok=True)
        page = Path(shutil.copyfile(page, target))
    return Result({"report": str(page)}, Path(run), [facts({"report": page})])


def export(run: str | Path, *, format: Sequence[str] | str | None = None, **options: Unpack[Common]) -> Result:
    """Write a model in forms that others load: ONNX, checked against torch in onnxruntime, or the format of the library it comes from."""
    refuse_settings("export", options)
    student = models.load(Path(run))
    wanted = [format] if isinstance(format, str) else list(format or [exporting.native(student) or "onnx"])
    model = Path(run) / "model" if (Path(run) / "model").is_dir() else Path(run)
    folder = Path(options.get("out") or Path(run) / "export")
    for kind in wanted:
        if kind not in exporting.FORMATS:
            raise UserError(f"there is no export format '{kind}': choose one of {', '.join(exporting.FORMATS)}")
    written = [exporting.export(student, model, kind, folder) for kind in wanted]
    lines = {w["format"]: w["path"] + (f", at most {w['difference']:.1e} away from torch" if "difference" in w else "") for w in written}
    return Result({"export": written}, folder, [facts(lines)])


def doctor(
    data: str | Path | None = None, *, distill: bool = False, teacher: Any = None, student: str = "auto", views: int = 4, **options: Unpack[Reading]
) -> Result:
    """Check this machine, the libraries and, if given, the data. ``distill``: whether storing ``views`` views of ``teacher``'s answers pays for this ``student``."""
    if distill and (data is None or not teacher):
        raise UserError("doctor --distill measures a teacher and a student on data; give DATA and --teacher")
    if not distill and (teacher or student != "auto"):
        raise UserError("doctor looks at a teacher and a student only with --distill")
    session = Session("doctor", {"data": data}, options, Reading, writes=False)
    device = distribution.start(session.settings.device)
    here = Path(options.get("out") or ".")
    extras = {name: all(importlib.util.find_spec(module) is not None for module in modules) for name, modules in EXTRAS.items()}
    missing = [name for name, there in extras.items() if not there]
    step = _step(device)
    answer: dict[str, Any] = {
        "versions": versions(),
        "system": platform.platform(),
        "cores": cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _device(device),
        "extras": extras,
        "free_bytes": shutil.disk_usage(_standing(here)).free,
        "writable": os.access(_standing(here), os.W_OK),
        "step_milliseconds": step,
    }
    told: list[str] = []
    if data is not None and distill:
        found, start = session.read_for(student, data)
        knows = session.teacher(teacher, found, answers=True)
        assert knows is not None, "it was given"
        start = start if start.classes else start.with_head(knows.classes, session.key("student"))
        answer["data"], answer["distill"] = found.describe(), saving.when_storing_pays(start, knows, found.train, device, views)
        told = saving.sentences(answer["distill"])
    elif data is not None:
        answer["data"] = session.read(data).describe()
    session.keep(answer)
    shown = {
        "versions": ", ".join(f"{name} {version}" for name, version in answer["versions"].items()),
        "system": answer["system"],
        "cores": f"{answer['cores']}, of which torch uses {answer['threads']}",
        "device": answer["device"],
        "extras": ", ".join(name for name, there in extras.items() if there) or "none",
        "not installed": ", ".join(missing) or "nothing",
        "disk": f"{size(answer['free_bytes'])} free, {'writable' if answer['writable'] else 'NOT writable'} at {here}",
        "a step": f"{step:.0f} ms for 64 images of 28 pixels through small-resnet; {duration(step)} for 1,000 steps",
    }
    advice = [escape(f"pip install 'understudy[{','.join(missing)}]' adds what is not installed.")] if missing else []
    return Result(answer, None, [facts(shown), *advice, *(escape(sentence) for sentence in told)])


def _standing(folder: Path) -> Path:
    """The nearest folder that exists."""
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir())


def _device(device: torch.device) -> str:
    return f"{device}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def _step(device: torch.device) -> float:
    """Milliseconds of a standard step: forward, backward and AdamW, 64 images of 28 pixels, the built-in image student."""
    digits = known.digits_on_canvas(size=28)
    student = models.build("small-resnet", digits.modality, digits.classes, 0).to(device)
    optimizer = torch.optim.AdamW(student.parameters())
    times = []
    for step in range(8):
        batch = digits.batch(torch.arange(64) + 64 * step, step=step, device=device)
        began = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(student(batch.view("weak").inputs), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - began)
    return 1000 * median(times[2:])
