"""Trans-Encoder: each form learns what the other says, takes over its weights, and neither sees a label."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.systems.training import made
from understudy import keyed, models
from understudy.claims import learn
from understudy.data import known
from understudy.data.modalities.text_pair import Pair, TextPairModality
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError
from understudy.models import Student
from understudy.systems.sd.trans_encoder import told


def pairs(count: int) -> Samples:
    """Halves of docstrings; every second pair is of one docstring."""
    data = known.docstrings()
    texts = [str(data.encoded.original(int(p))).split()[:20] for p in data.positions]
    texts = [words for words in texts if len(words) == 20][:count]
    said = [Pair(" ".join(words[:10]), " ".join(texts[i if i % 2 else (i * 7 + 3) % len(texts)][10:])) for i, words in enumerate(texts)]
    modality = TextPairModality(data.modality.tokenizer, 32)  # type: ignore[attr-defined]
    raw = modality.collate([modality.encode(pair) for pair in said])
    return Samples(modality, InMemory(raw, said), tuple(map(str, range(len(said)))), torch.arange(len(said)) % 2, ("apart", "together"))


def cosines(bi: Student, samples: Samples) -> torch.Tensor:
    batch = samples.batch(torch.arange(len(samples)))
    with torch.no_grad():
        return F.cosine_similarity(*(bi.eval().features(batch.view(name).inputs).pooled for name in ("first", "second")))


def test_a_bi_encoder_learns_the_scores_it_is_given() -> None:
    data = pairs(64)
    wanted = keyed.uniform(keyed.fold(5, torch.arange(len(data))))
    start = models.build("tiny-text", data.modality, (), 0)
    learned = learn(
        "trans-encoder-student", start, told(data, wanted), seed=100, steps=60, settings={"reads": "apart"}, optim__lr=3e-3, watch__action="off"
    ).student

    def error(bi: Student) -> float:
        return float((cosines(bi, data) - wanted).square().mean())

    assert error(learned) < 0.5 * error(start)


def test_a_cross_encoder_learns_the_scores_in_either_order(tmp_path: Path) -> None:
    data = pairs(48)
    wanted = (torch.arange(len(data)) % 3 == 0).float() * 0.8 + 0.1
    start = models.build("tiny-text", data.modality, (), 0)
    cross = learn("trans-encoder-student", start, told(data, wanted), seed=100, steps=80, optim__lr=3e-3, watch__action="off").student.eval()
    batch = data.batch(torch.arange(len(data)), key=9)
    with torch.no_grad():
        said = [cross(batch.view(name).inputs).softmax(-1)[:, 1] for name in ("plain", "turned")]
    assert all(float(s[wanted > 0.5].mean() - s[wanted < 0.5].mean()) > 0.3 for s in said)


def test_the_forms_take_turns_and_the_result_reads_single_texts(tmp_path: Path) -> None:
    data = pairs(32)
    system = made("trans-encoder", data, tmp_path, models.build("tiny-text", data.modality, (), 0), {"cycles": 2}, train__steps=10, train__batch=8)
    outcome = system.run()
    stages = sorted(path.name for path in (tmp_path / "stages").iterdir())
    assert stages == ["cycle-1-bi", "cycle-1-cross", "cycle-2-bi", "cycle-2-cross", "start"]
    assert outcome.student.head is None and outcome.student.modality.signature() == data.modality.alone.signature()  # type: ignore[attr-defined]
    cross = models.load(tmp_path / "stages" / "cycle-2-cross" / "model")
    assert cross.classes == ("different", "alike")


def test_labels_are_not_looked_at(tmp_path: Path) -> None:
    data = pairs(32)
    start = models.build("tiny-text", data.modality, (), 0)
    with_labels, without = (
        learn("trans-encoder", start, samples, seed=1, steps=6, settings={"cycles": 1}, train__batch=8, watch__action="off").student
        for samples in (data, data.relabelled(torch.full((len(data),), -1)))
    )
    assert torch.equal(cosines(with_labels, data), cosines(without, data))


def test_single_texts_are_refused(tmp_path: Path) -> None:
    data = known.docstrings().take(torch.arange(20))
    with pytest.raises(UserError, match="no pairs of texts; name both columns"):
        made("trans-encoder", data, tmp_path, "tiny-text")
