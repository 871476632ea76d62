"""Two encoders in one space: what is read alone and together, saving, and classifiers by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy import models
from understudy.data import known
from understudy.errors import UserError
from understudy.models.zero_shot import by_names


def test_it_reads_an_image_a_text_or_both() -> None:
    data = known.captioned_digits(1)
    student = models.build("auto", data.modality, (), 0).eval()
    assert student.spec["name"] == "small-clip"
    batch = data.batch(torch.arange(5))
    image, text, both = (student.features(batch.view(name).inputs) for name in ("image", "text", "plain"))
    torch.testing.assert_close(image.pooled.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(both.pooled, (image.pooled + text.pooled) / 2)
    assert (
        both.tokens.shape[1] == image.tokens.shape[1] + text.tokens.shape[1] == both.padding.shape[1] == student.backbone.positions(batch.view("plain").inputs)
    )
    alone = data.batch(torch.tensor([3]))
    torch.testing.assert_close(student.features(alone.view("plain").inputs).pooled, both.pooled[3:4])


def test_a_classifier_by_name_scores_cosines_and_is_saved_as_any_other(tmp_path: Path) -> None:
    data = known.captioned_digits(1)
    student = models.build("tiny-clip", data.modality, (), 0).eval()
    told = by_names(student, ("red", "blue"), ("a {} digit",))
    batch = data.batch(torch.arange(6))
    image = batch.view("image").inputs
    text = student.modality.text  # type: ignore[attr-defined]
    raw = text.collate([text.encode("a red digit"), text.encode("a blue digit")])
    names = student.backbone.texts(text.view(raw, "plain", torch.zeros(2, dtype=torch.int64)).inputs)  # type: ignore[operator]
    expected = student.backbone.scale.exp() * student.backbone.images(image) @ names.T  # type: ignore[operator, union-attr]
    torch.testing.assert_close(told(image), expected)
    models.save(told, tmp_path)
    again = models.load(tmp_path)
    torch.testing.assert_close(again(image), expected)
    assert again.modality.name == "image" and again.classes == ("red", "blue")
    models.save(student, tmp_path / "both")
    torch.testing.assert_close(models.load(tmp_path / "both").features(image).pooled, student.features(image).pooled)


def test_only_models_of_captions_know_names() -> None:
    with pytest.raises(UserError, match="train one with clip"):
        by_names(models.build("tiny-vit", known.digits().modality, (), 0), ("red",))
    with pytest.raises(UserError, match="no place for the name"):
        by_names(models.build("tiny-clip", known.captioned_digits(1).modality, (), 0), ("red",), ("a digit",))
