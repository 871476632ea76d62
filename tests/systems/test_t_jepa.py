"""T-JEPA: it learns, what is asked for is not seen, and the registers stay with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from tests.systems.training import made
from understudy import keyed, models
from understudy.data import known
from understudy.data.modalities.table import TableModality
from understudy.data.samples import InMemory, Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.systems.ssl_bootstrap.t_jepa import Predictor, drawn


def table(rows: int = 1797) -> Samples:
    """Digits as 16 numbers, each the mean of 2x2 pixels."""
    digits = load_digits()
    columns = {f"c{i}": column for i, column in enumerate(digits.images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16)[:rows].T)}
    modality = TableModality.fit(columns)
    labels = torch.from_numpy(digits.target[:rows]).long()
    return Samples(modality, InMemory(modality.encode_columns(columns)), tuple(f"row {i}" for i in range(rows)), labels, known.TEN_DIGITS)


def test_it_predicts_what_other_columns_tell(tmp_path: Path) -> None:
    """Unseen rows; the control is shown the columns of another row than the one that it is asked about."""
    train, test = hold_out(table(), 0.4, 100)
    settings = {"targets": 2, "context": (0.5, 0.7), "target": (0.2, 0.3), "momentum": (0.99, 1.0)}
    start = models.build("tiny-table", train.modality, train.classes, 100)
    objective = made("t-jepa", train, tmp_path, start, settings, seed=100, train__steps=150, train__batch=64, optim__lr=1e-2, watch__action="off")
    objective.run()
    batch, backbone = test.batch(torch.arange(256), key=5), objective.student.backbone
    inputs = batch.view("plain").inputs
    with torch.no_grad():
        seen, asked = objective.parts(batch, 16)
        told = objective.teacher.student.features(inputs).tokens
        spread = (told - told.mean(0)).square().mean((0, 2))

        def error(shown: dict[str, torch.Tensor]) -> float:
            content, places, _ = backbone.embed(shown)
            answer = objective.predictor(backbone.norm(backbone.through(content + places, ~seen, registers=True)), seen, asked)
            return float(((answer - told.repeat(2, 1, 1)).square().mean(-1) / spread)[asked].mean())

        right, other = error(inputs), error({name: x.roll(1, 0) for name, x in inputs.items()})
    assert right < other - 0.015, f"{right:.3f} of the spread, {other:.3f} from another row"


def test_what_is_asked_for_is_not_seen(tmp_path: Path) -> None:
    data = table(64)
    objective = made("t-jepa", data, tmp_path, "tiny-table", {"targets": 3, "context": (0.2, 0.4), "target": (0.2, 0.5)})
    seen, asked = objective.parts(data.batch(torch.arange(64)), 16)
    assert asked.shape == (3 * 64, 16) and not bool((asked & seen.repeat(3, 1)).any())
    assert int(seen.sum(1).min()) >= 3 and int(seen.sum(1).max()) <= 6 and len(seen.sum(1).unique()) > 1
    assert int(asked.sum(1).min()) >= 3 and int(asked.sum(1).max()) <= 8
    assert not torch.equal(asked[:64], asked[64:128])


def test_nothing_of_a_hidden_column_reaches_the_answer(tmp_path: Path) -> None:
    data = table(8)
    objective = made("t-jepa", data, tmp_path, "tiny-table").eval()
    backbone, inputs = objective.student.backbone, data.batch(torch.arange(8)).view("plain").inputs
    seen = torch.zeros(8, 16, dtype=torch.bool)
    seen[:, :4] = True
    asked = ~seen

    def answer(numbers: torch.Tensor) -> torch.Tensor:
        content, places, _ = backbone.embed({**inputs, "numbers": numbers})
        return objective.predictor(backbone.norm(backbone.through(content + places, ~seen, registers=True)), seen, asked)[asked]  # type: ignore[no-any-return]

    hidden_moved, seen_moved = inputs["numbers"].clone(), inputs["numbers"].clone()
    hidden_moved[:, 4:] += 3.0
    seen_moved[:, :4] += 3.0
    torch.testing.assert_close(answer(hidden_moved), answer(inputs["numbers"]))
    assert not torch.allclose(answer(seen_moved), answer(inputs["numbers"]))


def test_registers_are_read_by_the_predictor_and_kept(tmp_path: Path) -> None:
    module, tokens = Predictor(6, 8, 1, key=0), torch.randn(2, 2 + 4, 6, generator=torch.Generator().manual_seed(0))
    seen, asked = torch.tensor([[True, False, False, False]] * 2), torch.tensor([[False, True, False, False]] * 2)
    other = tokens.clone()
    other[:, 0] += torch.arange(6.0)  # a register
    assert not torch.allclose(module(tokens, seen, asked)[asked], module(other, seen, asked)[asked])
    objective = made("t-jepa", table(32), tmp_path, "tiny-table", {"registers": 2})
    assert objective.result().backbone.registers.shape == (2, 32)


def test_the_teacher_gets_no_gradient_and_follows(tmp_path: Path) -> None:
    data = table(32)
    objective = made("t-jepa", data, tmp_path, "tiny-table", {"momentum": (0.5, 0.5)}).train()
    losses = objective.losses(data.batch(torch.arange(8)))
    assert losses["features"].shape == (8,)
    losses["features"].sum().backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    with torch.no_grad():
        objective.student.backbone.registers.add_(2.0)
    before = objective.teacher.student.backbone.registers.clone()
    objective.after_step()
    torch.testing.assert_close(objective.teacher.student.backbone.registers, before + 1.0)


def test_drawn_takes_what_there_is() -> None:
    among = torch.tensor([[True, False, True, True, False, False]] * 50)
    found = drawn(keyed.fold(1, torch.arange(50)), among, (0.1, 0.9))  # type: ignore[arg-type]
    assert not bool((found & ~among).any()) and bool(found.any(1).all()) and len(found.sum(1).unique()) == 3


def test_a_table_of_one_column_is_refused(tmp_path: Path) -> None:
    modality = TableModality.fit({"only": [1.0, 2.0, 3.0]})
    data = Samples(modality, InMemory(modality.encode_columns({"only": [1.0, 2.0, 3.0]})), ("a", "b", "c"), torch.tensor([-1, -1, -1]))
    with pytest.raises(UserError, match="at least two"):
        made("t-jepa", data, tmp_path, models.build("tiny-table", modality, (), 0))


def test_shares_must_be_shares() -> None:
    from understudy.systems.ssl_bootstrap.t_jepa import TJEPASettings

    bad: dict[str, Any] = {"context": (0.5, 0.2)}
    with pytest.raises(ValueError, match="shares of the columns"):
        TJEPASettings(**bad)
