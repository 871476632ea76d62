"""Problems with exact checkers."""

from __future__ import annotations

import pytest

from understudy.data import problems
from understudy.errors import UserError

SIZES = {"addition": 3, "sorting": 6, "stories": 30}


@pytest.mark.parametrize("kind", problems.KINDS)
def test_the_checker_finds_its_own_answers_right_and_spoilt_ones_wrong(kind: str) -> None:
    samples = problems.draw(kind, 200, SIZES[kind], 1)
    right = problems.of(kind).right
    for exchange in problems.exchanges_of(samples):
        answer = exchange.answer or ""
        assert right(exchange.prompt, answer)
        assert not right(exchange.prompt, answer + "0") and not right(exchange.prompt, "") and not right(exchange.prompt, "?")
    assert len(set(samples.ids)) == 200 and len({e.prompt for e in problems.exchanges_of(samples)}) == 200


def test_checkers_work_out_the_answer_for_themselves() -> None:
    assert problems.of("addition").right("95+7=", "201") and not problems.of("addition").right("95+7=", "102")
    assert problems.of("sorting").right("3910>", "0139")
    told = problems.of("stories").right
    assert told("Ann has 5 pens and loses 3. How many?", "5-3=2") and told("Ann has 5 pens and loses 3. How many?", "2")
    assert not told("Ann has 5 pens and loses 3. How many?", "5+3=8") and told("Bob has 4 bags of 2 cats. How many?", "2*4=8")


def test_the_same_seed_draws_the_same_and_fits_its_length() -> None:
    for kind, size in (("addition", 6), ("sorting", 10), ("stories", 99)):
        a, b = problems.draw(kind, 50, size, 3), problems.draw(kind, 50, size, 3)
        assert a.ids == b.ids and a.fingerprint == b.fingerprint and a.ids != problems.draw(kind, 50, size, 4).ids
        tokens = a.encoded.raw(a.positions)
        assert int(tokens["length"].max()) <= a.modality.length
        assert a.modality.decode(tokens["tokens"][:1, int(tokens["prompt"][0]) :]) == [problems.exchanges_of(a)[0].answer]


def test_hidden_answers_are_gone() -> None:
    samples = problems.hidden(problems.draw("addition", 40, 2, 1), 10, 1)
    assert len(samples.labelled) == 10 and len(samples.unlabelled) == 30
    assert all(e.answer is None for e in problems.exchanges_of(samples.unlabelled))
    raw = samples.unlabelled.encoded.raw(samples.unlabelled.positions)
    assert bool((raw["length"] == raw["prompt"]).all())


def test_mistakes_are_sentences() -> None:
    with pytest.raises(UserError, match="did you mean|there is"):
        problems.draw("additoin", 5, 2, 1)
    with pytest.raises(UserError, match="not 105 different"):
        problems.draw("addition", 105, 1, 1)
    with pytest.raises(UserError, match="size from 2 to 10"):
        problems.draw("sorting", 5, 1, 1)
