"""Files of shapes."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from understudy.data.clouds import decode
from understudy.data.modalities import PointsModality
from understudy.data.pictures import Unreadable
from understudy.data.source import open_source
from understudy.errors import UserError

CORNERS = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.5]]
HEADER = "ply\nformat {} 1.0\ncomment x\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
FILES = {
    "a.xyz": b"# made up\n0 0 0\n1,0,0\n1 1 0 255\n0 1 .5\n",
    "a.obj": b"# x\nmtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0.5\nvn 0 0 1\nf 1//1 2//1 -2//1 4//1\n",
    "a.off": b"OFF\n# x\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0.5\n4 0 1 2 3\n",
    "a.ply": (HEADER.format("ascii") + "".join(f"{x} {y} {z} 9\n" for x, y, z in CORNERS) + "4 0 1 2 3\n").encode(),
    "b.ply": HEADER.format("binary_little_endian").encode() + b"".join(struct.pack("<fffB", *row, 9) for row in CORNERS) + struct.pack("<B4i", 4, 0, 1, 2, 3),
    "c.ply": HEADER.format("binary_big_endian").encode() + b"".join(struct.pack(">fffB", *row, 9) for row in CORNERS) + struct.pack(">B4i", 4, 0, 1, 2, 3),
}


@pytest.mark.parametrize("name", FILES)
def test_every_form_gives_the_same_shape(name: str) -> None:
    shape = decode(FILES[name], Path(name).suffix)
    assert torch.equal(shape.vertices, torch.tensor(CORNERS))
    if name == "a.xyz":
        assert shape.faces is None
    else:
        assert shape.faces is not None and shape.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".xyz", b"0 zero 0\n"), (".xyz", b""), (".xyz", b"0 1\n2 3\n4 5\n"), (".off", b"OFF\n"), (".obj", b"v 0 0\nv 1 1\n"), (".obj", b"v 0 0 0\nf 1 2 3\n"), (".off", b"NOFF\n"), (".off", b"OFF\n3 0 0\n0 0 0\n"),
        (".ply", b"ply\n"), (".ply", FILES["b.ply"][:-6]), (".xyz", b"\xff\xfe\x00"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_unreadable(suffix: str, data: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(data, suffix)


def test_a_folder_of_shapes(tmp_path: Path) -> None:
    for kind in ("chair", "table"):
        (tmp_path / kind).mkdir()
        for i in range(60):
            height = 1 + i / 7 + (kind == "table") / 3
            (tmp_path / kind / f"{i}.obj").write_text(f"v 0 0 0\nv 1 0 0\nv 1 {height} 0\nv 0 1 2\nf 1 2 3 4\n")
    (tmp_path / "chair" / "bad.obj").write_text("v 1 x 2\n")
    found = open_source(tmp_path, size=64)
    assert found.modality == "points" and isinstance(found.train.modality, PointsModality) and found.train.modality.vertical == 1
    assert len(found.train) == 120 and found.train.classes == ("chair", "table") and len(found.facts.unreadable) == 1
    assert found.train.batch(torch.tensor([3])).raw["points"].shape == (1, 64, 3)
    assert "120 shapes" in found.describe()[0] and "4 to 4 points or corners" in " ".join(found.describe())


def test_a_column_of_points(tmp_path: Path) -> None:
    clouds = [[[float(i), j / 3, j * j / 9] for j in range(20)] for i in range(5)]
    pa.parquet.write_table(pa.table({"points": clouds, "label": list("ababa")}), tmp_path / "a.parquet")
    found = open_source(tmp_path / "a.parquet")
    assert found.modality == "points" and len(found.train) == 5 and found.train.classes == ("a", "b")
    pa.parquet.write_table(pa.table({"x": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match="no column 'points'"):
        open_source(tmp_path / "b.parquet", modality="points")
