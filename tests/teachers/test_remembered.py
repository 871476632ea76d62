from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.image import ImageModality
from understudy.data.samples import Batch, InMemory, Samples, View
from understudy.teachers import Memory, Remembered, Signals, Teacher

CLASSES = ("ant", "bee")


class Counting(Teacher):
    """Says something else every time, and counts how often it is asked."""

    classes = CLASSES
    asked = 0

    @property
    def fingerprint(self) -> str:
        return "counting"

    @property
    def offers(self) -> frozenset[str]:
        return frozenset({"logits", "pooled"})

    def answer(self, batch: Batch, view: View) -> Signals:
        self.asked += 1
        return Signals(logits=torch.full((len(batch), 2), float(self.asked)), pooled=torch.zeros(len(batch), 9))


def samples(count: int = 12) -> Samples:
    pixels = keyed.integers(keyed.fold(1, torch.arange(count)), 256, (1, 12, 12)).to(torch.uint8)
    return Samples(ImageModality(size=12, channels=1), InMemory({"image": pixels}), tuple(map(str, range(count))), torch.full((count,), -1), CLASSES)


def logits(teacher: Teacher, batch: Batch, name: str = "weak") -> Tensor:
    found = teacher(batch, batch.view(name)).logits
    assert found is not None
    return found


def batches(key: int, steps: Sequence[int]) -> list[Batch]:
    data = samples()
    return [data.batch(torch.arange(4) + step, key, step) for step in steps]


def test_the_same_views_are_answered_from_memory_and_others_by_the_teacher() -> None:
    memory, teacher = Memory(), Counting()
    first = [logits(Remembered(teacher, memory), batch) for batch in batches(1, range(5))]
    again = [logits(Remembered(teacher, memory), batch) for batch in batches(1, [4, 0, 2])]
    assert teacher.asked == 5 and all(torch.equal(a, first[i]) for a, i in zip(again, (4, 0, 2), strict=True))
    for other in (batches(2, [0])[0], samples().batch(torch.tensor([0, 1, 2, 4]), 1, 0)):
        logits(Remembered(teacher, memory), other)
    logits(Remembered(teacher, memory), batches(1, [0])[0], "strong")
    assert teacher.asked == 8, "another seed, other samples, another view"
    plain = [logits(Remembered(teacher, memory), samples().batch(torch.tensor(rows)), "plain") for rows in ([0, 1], [2, 3], [0, 1])]
    assert teacher.asked == 10 and torch.equal(plain[0], plain[2]), "plain views of different samples are different"


def test_only_answers_are_given_and_what_does_not_fit_is_not_kept() -> None:
    teacher = Counting()
    memory = Memory(limit=70)
    remembered = Remembered(teacher, memory)
    assert remembered.offers == {"logits"} and remembered.classes == CLASSES and remembered.fingerprint == "counting"
    for batch in (*batches(1, range(4)), *batches(1, range(4))):
        said = remembered(batch, batch.view("weak"))
        assert said.pooled is None
    assert memory.used == 64 <= memory.limit and teacher.asked == 6, "two batches fit, the other two are asked again"
