"""Which kinds of data a system takes, beside those that its card names."""

from __future__ import annotations

import pytest

from understudy import systems


@pytest.mark.parametrize(
    ("slug", "takes", "refuses"),
    [
        ("supervised", ("image", "text", "table", "molecule", "graph", "points"), ("generation",)),
        ("mlm", ("text", "molecule"), ("image", "table", "graph", "points", "generation")),
        ("mae", ("image", "table", "graph"), ("text", "molecule", "points", "generation")),
        ("sft", ("generation",), ("text", "molecule")),
        ("chemberta-2", ("molecule",), ("text",)),
        ("m3s", ("graph", "image", "points"), ("generation",)),
    ],
)
def test_kinds_made_from_others_and_kinds_that_can_be_altered(slug: str, takes: tuple[str, ...], refuses: tuple[str, ...]) -> None:
    card = systems.get(slug).card
    assert [card.takes(kind) for kind in takes] == [True] * len(takes)
    assert [card.takes(kind) for kind in refuses] == [False] * len(refuses)
