"""DistilHuBERT: two copied blocks learn what later blocks say, and nothing flows back to the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.systems.training import made
from understudy import models
from understudy.claims import learn
from understudy.data import known
from understudy.data.modalities.audio import AudioModality
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError
from understudy.models import Student
from understudy.teachers.kinds import Frozen


def columns_of_digits() -> Samples:
    """The handwritten digits as spectrograms of eight bands and eight frames."""
    digits = known.digits()
    frames = (digits.encoded.raw(digits.positions)["image"][:, 0].float() / 128 - 1).half()
    steps = torch.full((len(digits),), 8)
    return Samples(AudioModality(8000, 8, mels=8), InMemory({"frames": frames, "steps": steps}), digits.ids, digits.labels, digits.classes)


def trained(data: Samples, steps: int = 60) -> Student:
    start = models.build("tiny-ast", data.modality, data.classes, 0, depth=4, patch=1)
    return learn("mae", start, data, seed=0, steps=steps, train__batch=64, optim__lr=3e-3).student


def distilled(data: Samples, teacher: Student, folder: Path, settings: dict[str, Any] | None = None, **common: Any) -> Any:
    return made("distilhubert", data, folder, teacher.clone(), settings, Frozen(teacher.clone()), **common)


def test_heads_learn_the_layers_and_better_from_a_copied_start(tmp_path: Path) -> None:
    data = columns_of_digits()
    teacher = trained(data)

    def error(system: Any) -> float:
        with torch.no_grad():
            return float(torch.stack([term.mean() for term in system.eval().losses(data.batch(torch.arange(1500, 1700))).values()]).sum())

    ends = []
    for copied in (True, False):
        system = distilled(data.take(torch.arange(1500)), teacher, tmp_path / str(copied), {"copied": copied}, train__steps=60, train__batch=64, optim__lr=1e-3)
        before = error(system)
        system.run()
        ends.append(error(system))
        assert ends[-1] < 0.8 * before
    assert ends[0] < ends[1]


def test_the_student_starts_as_the_first_blocks_and_ends_without_heads(tmp_path: Path) -> None:
    data = columns_of_digits()
    teacher = trained(data, 1)
    system = distilled(data, teacher, tmp_path, {"layers": 3})
    own, theirs = system.student.backbone, teacher.backbone
    assert len(own.blocks) == 3 and len(system.heads) == 3 and system.paths == ["backbone.blocks.0", "backbone.blocks.2", "backbone.blocks.3"]
    assert torch.equal(own.blocks[2].mlp[0].weight, theirs.blocks[2].mlp[0].weight) and torch.equal(own.enter.weight, theirs.enter.weight)
    terms = system.losses(data.batch(torch.arange(8)))
    sum(term.sum() for term in terms.values()).backward()
    assert all(p.grad is None for p in system.teacher.model.parameters()) and own.enter.weight.grad is not None
    assert [name for name, _ in system.result().named_parameters() if "heads" in name] == [] and system.result().spec["options"]["depth"] == 3


def test_silence_behind_the_end_teaches_nothing(tmp_path: Path) -> None:
    data = columns_of_digits()
    short = Samples(data.modality, InMemory({**data.encoded.everything, "steps": torch.full((len(data),), 5)}), data.ids, data.labels, data.classes)  # type: ignore[attr-defined]
    system = distilled(short, trained(data, 1), tmp_path).eval()
    batch = short.batch(torch.arange(4))
    before = system.losses(batch)
    batch.raw["frames"][:, :, 5:] = 9
    batch._views.clear()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), system.losses(batch).values(), strict=True))


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    data = columns_of_digits()
    teacher = trained(data, 1)
    with pytest.raises(UserError, match="give --student tiny-ast"):
        made("distilhubert", data, tmp_path, "small-ast", teacher=Frozen(teacher.clone()))
    with pytest.raises(UserError, match="the teacher has 4 blocks"):
        distilled(data, teacher, tmp_path, {"layers": 5})
