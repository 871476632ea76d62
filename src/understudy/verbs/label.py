"""``label`` and ``label verify``: a teacher's answers on disk, and whether they are still what the teacher says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from pydantic import Field

from understudy import labels as stores
from understudy import nearest, teachers
from understudy.data.samples import Samples
from understudy.engine import distribution
from understudy.errors import UserError
from understudy.labels import Codec, LabelStore
from understudy.models.student import Student
from understudy.report.page import size
from understudy.settings import Settings
from understudy.teachers.base import Teacher
from understudy.teachers.kinds import Frozen
from understudy.verbs.result import Result, facts
from understudy.verbs.session import Reading, Session
from understudy.verbs.tokens import label_of_tokens

_ENGINES = ("local", "ray")
_SAME = 1e-3
"""Difference beyond the codec's own rounding that counts as the teacher's floating-point noise."""


class LabelSettings(Settings):
    """Settings of ``label``."""

    k: int = Field(5, ge=1, description="classes that codec topk keeps, at most one less than there are (2112.01528, section 3.3: 5)")
    words: int = Field(50, ge=1, le=50, description="words that codec topk keeps of a token, or draws from all (2503.16870, section 5: 50)")
    cut: float = Field(0.001, ge=0, lt=1, description="probability that the words left out of a token's topk may have together (ours)")
    dtype: Literal["float16", "float32"] = Field("float16", description="precision of codec soft")
    temperature: float = Field(1.0, gt=0, description="divides the teacher's logits before they become probabilities")
    batch: int = Field(64, ge=1, description="samples that the teacher sees at once")


def label(
    data: str | Path,
    *,
    teacher: Any = None,
    codec: str = "soft",
    view: str = "plain",
    views: int = 1,
    engine: str = "local",
    **options: Unpack[Reading],
) -> Result:
    """Store what a teacher says about ``views`` views of every sample; goes on where it was stopped.

    ``codec``: hard, soft, topk or features; of every token of answers to prompts topk or draws. Any training run takes the folder as ``--teacher labels:FOLDER``. ``engine``: local, or ray for all nodes of the
    cluster that RAY_ADDRESS names.
    """
    if engine not in _ENGINES:
        raise UserError(f"there is no engine '{engine}' to label with: choose one of {', '.join(_ENGINES)}")
    if not teacher:
        raise UserError("label stores a teacher's answers; give --teacher with timm:NAME, hf:NAME, run:FOLDER or a server's address")
    given = {"data": data, "teacher": teacher, "codec": codec, "view": view, "views": views, "engine": engine}
    session = Session("label", given, options, Reading, settings={"label": LabelSettings})
    settings: Any = session.resolved.of["label"]
    found = session.read(data)
    if found.modality == "generation":
        return label_of_tokens(session, given)
    samples = found.train
    if view not in samples.modality.views:
        raise UserError(
            f"{samples.modality.name} has no view '{view}'; {nearest.hint(view, samples.modality.views, 'there is ' + ', '.join(samples.modality.views))}"
        )
    if views > 1 and view == "plain":
        raise UserError(f"all {views} plain views of a sample are the same; choose another --view, or --views 1")
    knows = session.teacher(teacher, found, answers=codec != "features")
    assert knows is not None, "it was given"
    kept = _codec(codec, settings, knows, samples)
    kept.layout(len(knows.classes or samples.classes))

    device = distribution.start(session.settings.device)
    with session.writing() as run:
        what = {"name": view, "seed": session.settings.seed if view != "plain" else 0}
        store = teachers.store_for(run.folder, knows, samples, kept, view=what, temperature=settings.temperature)
        done, total = 0, len(samples) * views

        def tell(count: int) -> None:
            nonlocal done
            done += count
            session.listener.progress(done, total)

        session.listener.stage("labels", str(run.folder))
        if engine == "ray":
            added = teachers.label_on_ray(knows, samples, store, views=views, batch=settings.batch, device=session.settings.device, progress=tell)
        else:
            added = teachers.label(knows, samples, store, views=views, batch=settings.batch, device=device, progress=tell)
        store = LabelStore.open(run.folder)
        answer: dict[str, Any] = {
            "store": str(run.folder),
            "teacher": knows.fingerprint,
            "data": samples.fingerprint,
            "codec": codec,
            "view": view,
            "samples": len(samples),
            "views": views,
            "labels": len(store),
            "added": added,
            "bytes": sum(p.stat().st_size for p in run.folder.glob("shard-*")),
            "agreement": _agreement(store, samples),
            "seconds": round(time.monotonic() - session.began, 2),
            "quarantined": len(session.quarantine.rows),
        }
        run.write("result.json", answer)
    said = {"labels": f"{answer['labels']:,} ({views} of each of {len(samples):,} samples), {added:,} of them new", "size": size(answer["bytes"])}
    said |= {} if answer["agreement"] is None else {"agreement": f"{answer['agreement']:.1%} of the labels that the data have"}
    return Result(answer, run.folder, [facts({**said, "use them with": f"--teacher labels:{run.folder}"})])


def label_verify(store: str | Path, data: str | Path, *, teacher: Any = None, samples: int = 256, **options: Unpack[Reading]) -> Result:
    """Ask the teacher again for ``samples`` of the stored labels, drawn at random, and compare.

    Raises UserError where the labels are another teacher's, or of other samples.
    """
    if not teacher:
        raise UserError("to verify labels their teacher is asked again; give it with --teacher")
    given = {"store": store, "data": data, "teacher": teacher, "samples": samples}
    session = Session("label_verify", given, options, Reading, settings={"label": LabelSettings}, writes=False)
    labelled = LabelStore.open(store)
    if labelled.manifest.tokenizer is not None:
        raise UserError(f"the labels at {store} are of tokens, which are not asked for again; label a few prompts into another folder and compare")
    found = session.read(data)
    knows = session.teacher(teacher, found, classes=labelled.manifest.classes)
    assert knows is not None, "it was given"
    labelled.require(teacher=knows.fingerprint)
    again = teachers.relabel(knows, found.train, labelled, device=distribution.start(session.settings.device))
    seen = stores.verify(labelled, again, count=samples, key=session.settings.seed)
    same = seen.largest <= 2 * labelled.codec.error() + _SAME
    answer = {"store": str(store), "checked": seen.checked, "largest": seen.largest, "mean": seen.mean, "agreement": seen.agreement, "same": same}
    session.keep(answer)
    verdict = "the teacher still says what is stored" if same else "the teacher says something else now: label again into another folder"
    said = {"checked": f"{seen.checked:,} of {len(labelled):,} labels", "largest difference": f"{seen.largest:.2g}", "mean difference": f"{seen.mean:.2g}"}
    return Result(answer, None, [facts({**said, "verdict": verdict})])


def _codec(name: str, settings: Any, teacher: Teacher, samples: Samples) -> Codec:
    """The codec with the parameters that suit the teacher. Raises UserError where it has no such answers."""
    if name == "topk":
        classes = len(teacher.classes or samples.classes)
        k = max(1, min(settings.k, classes - 1))
        return stores.codec("packed" if stores.Packed.holds(k, classes) else "topk", k=k)
    if name == "soft":
        return stores.codec(name, dtype=settings.dtype)
    if name == "features":
        if not (isinstance(teacher, Frozen) and isinstance(teacher.model, Student)):
            raise UserError("only a model gives features; choose the codec hard, soft or topk for this teacher")
        return stores.codec(name, width=teacher.model.backbone.width)
    return stores.codec(name)


def _agreement(store: LabelStore, samples: Samples) -> float | None:
    """Share of the data's own labels that the stored ones agree with, on the first view; None without labels to compare."""
    labelled = samples.labelled
    if store.codec.name == "features" or not len(labelled) or store.manifest.classes != samples.classes:
        return None
    said = store.decode(store.read(labelled.keys, 0)).argmax(-1)
    return float((said == labelled.labels).to(torch.float64).mean())
