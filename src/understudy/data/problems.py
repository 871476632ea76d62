"""Problems that a small language model learns in minutes, each with an exact checker: addition, sorting, stories with numbers in them.

Everything is drawn from keys; no prompt occurs twice in one draw.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy import keyed, nearest
from understudy.data.modalities.generation import Exchange, GenerationModality
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError

ANSWERED = ("answered",)
"""The one class that samples with a known answer have."""


def samples_of(exchanges: Sequence[Exchange], modality: GenerationModality, ids: Sequence[str], weights: Tensor | None = None) -> Samples:
    """Prompts and answers as samples; labelled 0 where the answer is known, -1 elsewhere."""
    encoded = InMemory(modality.collate([modality.encode(exchange) for exchange in exchanges]), exchanges)
    labels = torch.tensor([0 if exchange.answer is not None else -1 for exchange in exchanges])
    return Samples(modality, encoded, tuple(ids), labels, ANSWERED, weights=weights)


def exchanges_of(samples: Samples) -> list[Exchange]:
    """The prompts and answers of samples, in order."""
    return [samples.encoded.original(position) for position in samples.positions.tolist()]


def hidden(samples: Samples, known: int, seed: int) -> Samples:
    """The same prompts, all but ``known`` of them without an answer. The caller keeps the truth in ``samples``."""
    order = keyed.bits(keyed.fold(keyed.fold(seed, "known answers"), samples.keys)).argsort(stable=True)
    shown = set(order[:known].tolist())
    exchanges = [exchange if i in shown else Exchange(exchange.prompt) for i, exchange in enumerate(exchanges_of(samples))]
    return samples_of(exchanges, samples.modality, samples.ids)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kind:
    """One kind of problem."""

    alphabet: str
    length: int
    """Tokens of the longest prompt with its answer."""
    draw: Callable[[int, int], Exchange]
    """The problem of a key, of a size."""
    right: Callable[[str, str], bool]
    """Whether an answer to a prompt is right, found out from the prompt alone."""
    sizes: tuple[int, int]
    """Smallest and largest size."""


def _add(key: int, digits: int) -> Exchange:
    # Numbers of all lengths occur: the length is drawn first.
    lengths = keyed.integers(keyed.fold(key, "lengths"), digits, (2,)) + 1
    a, b = (int(keyed.integers(keyed.fold(key, i), 10 ** int(length))) for i, length in enumerate(lengths))
    return Exchange(f"{a}+{b}=", str(a + b)[::-1])


def _added(prompt: str, answer: str) -> bool:
    a, b = prompt.rstrip("=").split("+")
    return answer == str(int(a) + int(b))[::-1]


def _sort(key: int, most: int) -> Exchange:
    count = int(keyed.integers(keyed.fold(key, "count"), most - 1)) + 2
    digits = "".join(map(str, keyed.integers(keyed.fold(key, "digits"), 10, (count,)).tolist()))
    return Exchange(f"{digits}>", "".join(sorted(digits)))


def _sorted(prompt: str, answer: str) -> bool:
    return answer == "".join(sorted(prompt.rstrip(">")))


_NAMES, _THINGS = ("Ann", "Bob", "Eve", "Tom"), ("pens", "nuts", "eggs", "cats")
_STORIES = (
    ("{n} has {a} {t} and gets {b}.", "+"), ("{n} has {a} {t} and loses {b}.", "-"), ("{n} has {a} bags of {b} {t}.", "*"),
    ("{n} finds {b} {t} and had {a}.", "+"), ("{n} sells {b} of {a} {t}.", "-"),
)  # fmt: skip
_OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


def _tell(key: int, largest: int) -> Exchange:
    pick = keyed.integers(keyed.fold(key, "story"), len(_STORIES) * len(_NAMES) * len(_THINGS)).item()
    (story, operation), name, thing = _STORIES[pick % 5], _NAMES[pick // 5 % 4], _THINGS[pick // 20]  # type: ignore[index, operator]
    a, b = sorted((int(keyed.integers(keyed.fold(key, i), largest)) + 1 for i in range(2)), reverse=True)
    result = _OPERATIONS[operation](a, b)
    return Exchange(story.format(n=name, a=a, b=b, t=thing) + " How many?", f"{a}{operation}{b}={result}")


def _told(prompt: str, answer: str) -> bool:
    """The working may be anything; the last number counts."""
    operation = next(
        operation
        for story, operation in _STORIES
        if re.fullmatch(re.sub(r"{[ab]}", r"\\d+", re.sub(r"{[nt]}", r"\\w+", story.replace(".", r"\."))), prompt.removesuffix(" How many?"))
    )
    a, b = sorted(map(int, re.findall(r"\d+", prompt)), reverse=True)
    said = re.findall(r"-?\d+", answer.replace("=", " "))
    return bool(said) and int(said[-1]) == _OPERATIONS[operation](a, b)


_LETTERS = "".join(sorted({c for story, _ in _STORIES for c in story} | set("".join(_NAMES + _THINGS)) | set("How many?0123456789+-*=")))
KINDS = {
    "addition": Kind("0123456789+=", 24, _add, _added, (1, 6)),
    "sorting": Kind("0123456789>", 24, _sort, _sorted, (2, 10)),
    "stories": Kind(_LETTERS, 72, _tell, _told, (2, 99)),
}


def draw(kind: str, n: int, size: int, seed: int) -> Samples:
    """``n`` different problems with their answers: ``addition`` of numbers of up to ``size`` digits (the sum is written from its last digit), ``sorting`` of up to
    ``size`` digits, ``stories`` with numbers up to ``size``. Raises UserError where there are not so many different ones.
    """
    known = of(kind)
    smallest, largest = known.sizes
    if not smallest <= size <= largest:
        raise UserError(f"problems of {kind} have a size from {smallest} to {largest}, got {size}")
    found: dict[str, Exchange] = {}
    for number in range(20 * n):
        exchange = known.draw(int(keyed.fold(seed, kind, number)), size)
        found.setdefault(exchange.prompt, exchange)
        if len(found) == n:
            break
    else:
        raise UserError(f"there are not {n:,} different problems of {kind} of size {size}; ask for fewer or for a larger size")
    return samples_of(list(found.values()), GenerationModality.characters([known.alphabet], known.length), [f"{kind}/{prompt}" for prompt in found])


def of(kind: str) -> Kind:
    """A kind by name. Raises UserError where there is none."""
    if kind not in KINDS:
        raise UserError(f"there are no problems of '{kind}'; {nearest.hint(kind, KINDS, 'there is ' + ', '.join(KINDS))}")
    return KINDS[kind]
