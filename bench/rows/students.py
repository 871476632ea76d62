"""Three small students from one pass of a teacher, ``understudy distill --student A --student B --student C``, over the sum of three runs of one student each.

Whole verbs: data are read, models evaluated, exported and reported in both. The students are the same, bit for bit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import understudy as us
from bench import Line, line
from understudy import models
from understudy.data import known

STUDENTS = ("tiny-resnet", "tiny-vit", "small-resnet")


def measure(part: str, quick: bool) -> Iterator[Line]:
    from PIL import Image

    torch.set_num_threads(1)
    digits = known.digits_on_canvas(size=32)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        for i in range(600):
            where = folder / "data" / digits.classes[int(digits.labels[i])]
            where.mkdir(parents=True, exist_ok=True)
            pixels = digits.batch(torch.tensor([i])).raw["image"][0]
            Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()).save(where / f"{i}.png")
        from understudy.data.source import open_source

        found = open_source(folder / "data").train
        models.save(models.build("base-resnet", found.modality, found.classes, key=1), folder / "teacher" / "model")
        ratios = []
        for repeat in range(1):
            alone = sum(run(folder, f"alone-{repeat}-{student}", student, quick) for student in STUDENTS)
            ratios.append(run(folder, f"together-{repeat}", list(STUDENTS), quick) / alone)
        for position, student in enumerate(STUDENTS, 1):
            one, other = (load_file(folder / f"{where}/model/model.safetensors") for where in (f"alone-0-{student}", f"together-0/stages/student-{position}"))
            assert all(torch.equal(one[name], other[name]) for name in one), f"{student} is not the one it would have been alone"
        yield line("students/three", ratios, "x one run each", 0.65)


def run(folder: Path, name: str, student: Any, quick: bool) -> float:
    start = time.process_time()
    steps = 10 if quick else 25
    us.distill(
        folder / "data", teacher=f"run:{folder / 'teacher'}", student=student, out=folder / name, set=[f"train.steps={steps}", "train.batch=64"], quiet=True
    )
    return time.process_time() - start
