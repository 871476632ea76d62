"""``label`` of prompts with answers: what a language model would have said at every token of these."""

from __future__ import annotations

import time
from typing import Any

from understudy import teachers
from understudy.engine import distribution
from understudy.errors import UserError
from understudy.labels import LabelStore
from understudy.models import Policy
from understudy.report.page import size
from understudy.verbs.result import Result, facts
from understudy.verbs.session import Session

_CODECS = ("topk", "draws")


def label_of_tokens(session: Session, given: dict[str, Any]) -> Result:
    """As ``label``, which has checked nothing but that there is a teacher. The data are read anew in the teacher's tokens; only a student with the same can learn from them."""
    teacher, codec = given["teacher"], given["codec"]
    spec = teacher[0] if isinstance(teacher, list | tuple) and len(teacher) == 1 else teacher
    if not isinstance(spec, str) or not spec.startswith(("hf:", "run:")):
        raise UserError("tokens are labelled by one language model; give --teacher with hf:NAME or run:FOLDER")
    if codec not in _CODECS:
        raise UserError(f"of a token's words codec topk keeps the likeliest and draws some drawn from all; choose one with --codec, not '{codec}'")
    if given["views"] != 1 or given["view"] != "plain" or given["engine"] != "local":
        raise UserError("tokens are labelled as they are and on this machine; leave --view, --views and --engine out")
    settings: Any = session.resolved.of["label"]
    found, model = session.read_for(spec, given["data"])
    if not isinstance(model, Policy):
        raise UserError(f"{spec} is no language model; give one as hf:NAME or run:FOLDER")
    device = distribution.start(session.settings.device)
    knows, samples = teachers.Frozen(model).to(device), found.train
    with session.writing() as run:
        how = {"k": settings.words, "cut": settings.cut, "batch": settings.batch, "device": device}
        store = teachers.token_store_for(run.folder, knows, samples, codec, **how)
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            session.listener.progress(done, len(samples))

        session.listener.stage("labels", str(run.folder))
        added = teachers.label_tokens(knows, samples, store, batch=settings.batch, device=device, seed=session.settings.seed, progress=tell)
        labels, written = len(LabelStore.open(run.folder)), sum(p.stat().st_size for p in run.folder.glob("shard-*"))
        answer = {
            "store": str(run.folder),
            "teacher": knows.fingerprint,
            "data": samples.fingerprint,
            "codec": codec,
            "samples": len(samples),
            "labels": labels,
            "added": added,
            "bytes": written,
            "seconds": round(time.monotonic() - session.began, 2),
            "quarantined": len(session.quarantine.rows),
        }
        run.write("result.json", answer)
    use = f"--system gkd --set gkd.on_policy=0 --set gkd.divergence=forward --teacher labels:{run.folder}"
    said = {
        "labels": f"{labels:,} tokens, {added:,} of them new",
        "size": f"{size(written)}, {written / max(labels, 1):.1f} bytes a token",
        "use them with": use,
    }
    return Result(answer, run.folder, [facts(said)])
