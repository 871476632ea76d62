"""UNFUSED: clusters teach a fresh network, its depths teach its shallows and not the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.systems.test_distilhubert import columns_of_digits
from tests.systems.training import made
from understudy import evaluate, maths, models
from understudy.data import known
from understudy.data.samples import Samples
from understudy.data.split import hold_out
from understudy.errors import UserError
from understudy.models import Student
from understudy.systems.ssl_cluster.unfused import Unfused, UnfusedSettings


def clustered(samples: Samples, count: int = 20) -> Samples:
    """Labelled with the cluster of their pixels."""
    pixels = samples.encoded.raw(samples.positions)["image"].flatten(1).float()
    labels, _ = maths.kmeans(pixels, count, 0)
    return Samples(samples.modality, samples.encoded, samples.ids, labels, tuple(map(str, range(count))), samples.positions, samples.keys)


def test_clusters_teach_features(tmp_path: Path) -> None:
    train, test = hold_out(known.digits(), 0.3, 7)
    start = models.build("tiny-resnet", train.modality, (), 7)

    def worth(student: Student) -> float:
        seen = evaluate.features(student, train), train.labels, evaluate.features(student, test), test.labels
        return evaluate.few_shot(*seen, shots=3, key=7).mean

    taught = made("unfused-clusters", clustered(train), tmp_path, start, train__steps=100, train__batch=64).run().student
    assert worth(taught) > worth(start) + 0.1


def test_the_depths_learn_nothing_from_the_shallows(tmp_path: Path) -> None:
    data = clustered(known.digits())
    system = made("unfused-clusters", data, tmp_path, "tiny-vit", {"labels": 0.0}).train()
    terms = system.losses(data.batch(torch.arange(16)))
    assert list(terms) == ["clusters", "backbone.blocks.0", "backbone.blocks.1"]
    torch.stack([term.sum() for name, term in terms.items() if name != "clusters"]).sum().backward()
    blocks = system.student.backbone.blocks
    assert float(blocks[0].mlp[0].weight.grad.abs().sum()) > 0
    assert blocks[2].mlp[0].weight.grad is None and system.student.head.weight.grad is None


def test_the_terms_by_hand(tmp_path: Path) -> None:
    data = clustered(known.digits())
    batch = data.batch(torch.arange(16))
    settings = {"exits": 1, "labels": 0.7, "answers": 0.3, "logits": 0.003}
    system = made("unfused-clusters", data, tmp_path, "tiny-vit", settings).eval()
    with torch.no_grad():
        terms = system.losses(batch)
        seen = system.student.features(batch.view("weak").inputs)
        last = system.student.logits(seen).double()
        backbone = system.student.backbone
        content, places, _ = backbone.embed(batch.view("weak").inputs)
        said = system.heads[0](backbone.blocks[1](backbone.blocks[0](content + places)).mean(1)).double()
    p, right = last.softmax(-1), torch.arange(16)
    expected = (
        -0.7 * said.log_softmax(-1)[right, batch.labels]
        + 0.3 * (p * (last.log_softmax(-1) - said.log_softmax(-1))).sum(-1)
        + 0.003 * (said - last).square().mean(-1)
    )
    assert list(terms) == ["clusters", "backbone.blocks.1"]
    torch.testing.assert_close(terms["backbone.blocks.1"].double(), expected, atol=1e-5, rtol=1e-4)


def test_the_plan_hands_clusters_to_a_network_that_never_saw_the_encoders_weights(tmp_path: Path) -> None:
    data = known.few_labels(known.digits().take(torch.arange(200)), 3, 0)
    settings = {"clusters": 7, "smaller": "tiny-vit"}
    plan = made("unfused", data, tmp_path, "tiny-resnet", settings, train__steps=6, train__batch=32, watch__action="off")
    outcome = plan.run()
    encoder, student = (models.load(tmp_path / "stages" / name) for name in ("pretrain", "clusters"))
    assert encoder.spec["name"] == "tiny-resnet" and student.spec["name"] == "tiny-vit" and len(student.classes) == 7
    assert outcome.student.classes == data.classes and outcome.student.spec["name"] == "tiny-vit"
    again = plan.clustered(encoder)
    assert len(again) == 200 and torch.equal(again.labels, plan.clustered(encoder).labels) and set(again.labels.tolist()) == set(range(7))


def test_shares_must_leave_something_for_the_labels() -> None:
    with pytest.raises(UserError, match="leave a share"):
        UnfusedSettings().changed({"pretrain_share": 0.6, "clusters_share": 0.4})


@pytest.mark.parametrize(("view", "sounds", "images"), [(None, "weak", "auto"), ("strong", "strong", "strong")])
def test_the_contrast_moves_sounds_and_does_not_hide_them(view: str | None, sounds: str, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def stage(self: Unfused, name: str, slug: str, student: Student, *, settings: dict[str, str], **further: object) -> None:
        asked.append(settings["view"])
        raise InterruptedError

    monkeypatch.setattr(Unfused, "stage", stage)
    for data, model in ((columns_of_digits(), "tiny-audio"), (known.digits(), "tiny-resnet")):
        with pytest.raises(InterruptedError):
            made("unfused", data, tmp_path, model, {"view": view}).run()
    assert asked == [sounds, images]
