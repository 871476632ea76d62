"""Files of shapes (PLY, OBJ, OFF, XYZ) and columns of points."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from understudy.data.folder import shown
from understudy.data.modalities.points import PointsModality, Shape
from understudy.data.pictures import Unreadable
from understudy.data.quarantine import Quarantine
from understudy.data.samples import Encoded, InMemory, Inputs, Modality
from understudy.errors import UserError

SUFFIXES = frozenset((".ply", ".obj", ".off", ".xyz"))
COUNT = 512
"""Points of a shape that the built-in student looks at."""
_UPWARDS = {".obj": 1}
"""The axis that points up, by suffix: y in most OBJ files, z in scans."""
_BINARY = {"char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4",
           "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8"}  # fmt: skip


def decode(data: bytes, suffix: str) -> Shape:
    """The shape in a file. Colours, normals and textures are passed over. Raises Unreadable for what is no such file, or not whole."""
    try:
        points, faces = _PARSERS[suffix](data)
    except (ValueError, IndexError, KeyError, StopIteration, UnicodeDecodeError) as error:
        raise Unreadable(f"no sound {suffix[1:].upper()} file: {error or type(error).__name__}") from error
    if not len(points):
        raise Unreadable("it holds no point")
    triangles = torch.tensor([(face[0], b, c) for face in faces for b, c in zip(face[1:], face[2:], strict=False)], dtype=torch.int64).view(-1, 3)
    if len(triangles) and not 0 <= int(triangles.min()) <= int(triangles.max()) < len(points):
        raise Unreadable("a face has a corner that is not there")
    return Shape(torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32)), triangles if len(triangles) else None)


def _three(rows: list[list[float]]) -> np.ndarray:
    """float64 ``[V, 3]``. Raises ValueError where a point has fewer than three numbers."""
    if any(len(row) != 3 for row in rows):
        raise ValueError("a point has fewer than three numbers")
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _xyz(data: bytes) -> tuple[np.ndarray, list[list[int]]]:
    rows = [line.replace(",", " ").split()[:3] for line in data.decode().splitlines() if line.strip() and not line.startswith("#")]
    return _three([[float(cell) for cell in row] for row in rows]), []


def _obj(data: bytes) -> tuple[np.ndarray, list[list[int]]]:
    points: list[list[float]] = []
    faces: list[list[int]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        if line.startswith("v "):
            points.append([float(cell) for cell in line.split()[1:4]])
        elif line.startswith("f "):
            corners = [int(corner.split("/")[0]) for corner in line.split()[1:]]
            faces.append([corner - 1 if corner > 0 else len(points) + corner for corner in corners])
    return _three(points), faces


def _off(data: bytes) -> tuple[np.ndarray, list[list[int]]]:
    text = data.decode().lstrip()
    if not text.startswith("OFF"):
        raise ValueError("it does not begin with OFF")
    words = iter(word for line in text[3:].splitlines() for word in line.split("#")[0].split())
    count, faces, _ = [int(next(words)) for _ in range(3)]  # a generator would turn the end of the words into another error
    points = _three([[float(next(words)) for _ in range(3)] for _ in range(count)])
    return points, [[int(next(words)) for _ in range(int(next(words)))] for _ in range(faces)]


def _ply(data: bytes) -> tuple[np.ndarray, list[list[int]]]:
    end = data.index(b"end_header")
    end = data.index(b"\n", end) + 1
    lines = [line.split() for line in data[:end].decode().splitlines()]
    if lines[0] != ["ply"]:
        raise ValueError("it does not begin with ply")
    form = next(line[1] for line in lines if line and line[0] == "format")
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line and line[0] == "element":
            elements.append((line[1], int(line[2]), []))
        elif line and line[0] == "property":
            elements[-1][2].append(line[1:])
    take = _plain(data[end:]) if form == "ascii" else _packed(data[end:], "<" if form == "binary_little_endian" else ">")
    points, faces = np.empty((0, 3)), []
    for name, count, properties in elements:
        rows = [{one[-1]: take(one) for one in properties} for _ in range(count)]
        if name == "vertex":
            points = _three([[row[axis][0] for axis in "xyz"] for row in rows])
        if name == "face":
            faces = [[int(i) for i in next(row[key] for key in ("vertex_indices", "vertex_index") if key in row)] for row in rows]
    return points, faces


def _plain(data: bytes) -> Callable[[list[str]], list[float]]:
    words = iter(data.split())
    return lambda kind: [float(next(words)) for _ in range(int(next(words)) if kind[0] == "list" else 1)]


def _packed(data: bytes, order: str) -> Callable[[list[str]], list[float]]:
    place = 0

    def numbers(kind: str, count: int) -> list[float]:
        nonlocal place
        form = np.dtype(order + _BINARY[kind])
        if place + count * form.itemsize > len(data):
            raise ValueError("it ends too early")
        values = np.frombuffer(data, form, count, place)
        place += count * form.itemsize
        return values.tolist()  # type: ignore[no-any-return]

    return lambda kind: numbers(kind[2], int(numbers(kind[1], 1)[0])) if kind[0] == "list" else numbers(kind[0], 1)


_PARSERS = {".xyz": _xyz, ".obj": _obj, ".off": _off, ".ply": _ply}


@dataclass(frozen=True)
class Cloud:
    """One shape that nobody has read yet."""

    where: str
    path: Path | None = None
    points: list[list[float]] | None = None

    def read(self) -> Shape:
        """Decode it. Raises Unreadable."""
        if self.path is None:
            points = np.array(self.points or [], dtype=np.float32)
            if points.ndim != 2 or points.shape[1] < 3:
                raise Unreadable("the row holds no list of points with three numbers each")
            return Shape(torch.from_numpy(np.ascontiguousarray(points[:, :3])))
        try:
            return decode(self.path.read_bytes(), self.path.suffix.lower())
        except OSError as error:
            raise Unreadable(error.strerror or str(error)) from error


def points_column(table: pa.Table) -> str | None:
    """The column called ``points`` (or ``xyz``) that holds lists of lists; None where there is none."""
    return next((name for name in table.column_names if name.lower() in ("points", "xyz") and _is_cloud(table.schema.field(name).type)), None)


def _is_cloud(kind: pa.DataType) -> bool:
    def listed(one: pa.DataType) -> bool:
        return pa.types.is_list(one) or pa.types.is_large_list(one) or pa.types.is_fixed_size_list(one)

    return bool(listed(kind) and listed(kind.value_type))


class Originals(Sequence[Shape]):
    """Shapes read again when somebody asks for them."""

    def __init__(self, clouds: Sequence[Cloud]):
        self.clouds = clouds

    def __len__(self) -> int:
        return len(self.clouds)

    def __getitem__(self, index: int) -> Shape:  # type: ignore[override]
        try:
            return self.clouds[index].read()
        except Unreadable as error:
            raise UserError(f"{self.clouds[index].where} could be read when this run looked at its data and can not be read any more: {error}") from error


class Clouds:
    """Shapes to be encoded."""

    kind = "points"

    def __init__(self, clouds: Sequence[Cloud]):
        self.clouds = list(clouds)
        self.meshes = 0
        self.sizes: list[int] = []

    def __len__(self) -> int:
        return len(self.clouds)

    def look(self) -> None:
        """Nothing that ``fit`` needs; points are counted as they are encoded."""

    def fit(self, size: int | None, seed: int) -> Modality:
        """``size`` (``COUNT``) points; which axis points up is taken from the files' suffix."""
        suffix = next((cloud.path.suffix.lower() for cloud in self.clouds if cloud.path is not None), "")
        return PointsModality(COUNT if size is None else size, _UPWARDS.get(suffix, 2))

    def encode(self, modality: Modality, quarantine: Quarantine) -> tuple[Encoded, list[int], list[bytes]]:
        kept: list[int] = []
        encoded: list[Inputs] = []
        for i, cloud in enumerate(self.clouds):
            try:
                shape = cloud.read()
                encoded.append(modality.encode(shape))
            except (Unreadable, ValueError) as error:
                quarantine.add(cloud.where, str(error))
                continue
            kept.append(i)
            self.sizes.append(len(shape.vertices))
            self.meshes += shape.faces is not None
        digests = [hashlib.blake2b(one["points"].numpy().tobytes(), digest_size=16).digest() for one in encoded]
        return InMemory(modality.collate(encoded) if encoded else {}, Originals([self.clouds[i] for i in kept])), kept, digests

    def facts(self) -> dict[str, object]:
        return {"surfaces": self.meshes, "points": {"least": min(self.sizes, default=0), "greatest": max(self.sizes, default=0)}}

    def describe(self) -> list[str]:
        if not self.sizes:
            return []
        return [f"{self.meshes:,} of them are surfaces; they have {min(self.sizes):,} to {max(self.sizes):,} points or corners."]


def clouds_in(paths: Sequence[Path]) -> list[Cloud]:
    """Files of shapes, not opened yet."""
    return [Cloud(shown(path), path) for path in paths]


def clouds_of(column: pa.ChunkedArray, where: Sequence[str]) -> list[Cloud]:
    """The shapes of a column of lists of points."""
    return [Cloud(name, points=points) for name, points in zip(where, column.to_pylist(), strict=True)]
