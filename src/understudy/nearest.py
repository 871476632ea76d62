"""The nearest valid name to one that is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """At most ``n`` of the ``known`` names that may have been meant by ``name``, best first.

    Those that are much less like it than the best are left out. Of dotted names the last parts are compared, within the section if there is such a
    section: ``lr`` and ``training.lr`` find ``optim.lr``.
    """
    candidates = list(known)
    section, _, last = name.rpartition(".")
    inside = [k for k in candidates if section and k.startswith(f"{section}.")]
    by_end: dict[str, list[str]] = {}
    for candidate in inside or candidates:
        by_end.setdefault(candidate.rpartition(".")[2], []).append(candidate)
    near = [full for end in get_close_matches(last, by_end, n=n, cutoff=0.6) for full in by_end[end]]
    likeness = {full: SequenceMatcher(None, name, full).ratio() for full in near}
    near.sort(key=lambda full: likeness[full], reverse=True)
    return [full for full in near[:n] if likeness[full] > 0.8 * likeness[near[0]]]


def hint(name: str, known: Iterable[str], otherwise: str) -> str:
    """``did you mean A or B?``, or ``otherwise`` where nothing is near."""
    near = names(name, known)
    return f"did you mean {' or '.join(near)}?" if near else otherwise
