"""Labelling takes texts by their length, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import torch

from understudy.data import known
from understudy.data.source import open_source
from understudy.teachers.labelling import by_length


def test_texts_of_a_file_go_by_length_and_images_as_they_are(tmp_path: Path) -> None:
    texts = ["a b c", "a", "a b c d e f g h", "b c", "a b c d e f"]
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(texts) + "\n")
    samples = open_source(tmp_path / "texts.csv").train
    assert by_length(samples).tolist() == [2, 4, 0, 3, 1]
    assert by_length(samples.take(torch.tensor([1, 0, 2]))).tolist() == [2, 1, 0]
    digits = known.digits().take(torch.arange(5))
    assert by_length(digits).tolist() == [0, 1, 2, 3, 4]
