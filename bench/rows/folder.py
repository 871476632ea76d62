"""From a folder of JPEGs of 500 x 375 pixels to two views, or two large with six small crops: seconds of ImageFolder with lightly over ours. Target: 2.

Both decode every image once for all of its views, on two cores; the peer with two workers (``bench/peers/folder.py``), we with two threads. Ours keeps the
central square on its canvas and crops that, which is what training does when a data set does not fit in memory. Decoding at a reduced scale does not come in: it
asks for a picture of at least four times the canvas, and these have three at most.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from bench import Line, line
from bench.peers import Peer
from bench.peers.serving import pin
from understudy import keyed
from understudy.data.modalities.image import ImageModality, local_size
from understudy.data.pictures import OnDisk, Picture

BATCH = 16
"""So that each of the peer's workers gets as many batches of a block."""


def measure(part: str, quick: bool) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        count = 48 if quick else 96
        written(Path(folder), count)
        for size, crops, small in ((224, "two", 0), (224, "multi", 6), (96, "two", 0)):
            if f"{size}/{crops}".startswith(part):
                yield compared(f"folder/{size}/{crops}", Path(folder), size, small, 3 if quick else 7)


def written(folder: Path, count: int) -> None:
    """JPEGs in two classes: parts of two photographs that scikit-learn brings along, enlarged or not."""
    for i, u in enumerate(keyed.uniform(keyed.fold(1, torch.arange(count)), (3,)).tolist()):
        picture = Image.fromarray(load_sample_images().images[i % 2])
        width = 360 + u[0] * (picture.width - 360)
        left, top = u[1] * (picture.width - width), u[2] * (picture.height - 0.75 * width) if picture.height > 0.75 * width else 0.0
        where = folder / str(i % 2) / f"{i}.jpg"
        where.parent.mkdir(exist_ok=True)
        picture.resize((500, 375), Image.Resampling.BICUBIC, box=(left, top, left + width, min(top + 0.75 * width, picture.height))).save(where, quality=90)


def compared(name: str, folder: Path, size: int, small: int, repeats: int) -> Line:
    pin(2)
    pictures = [Picture(str(path), partial(open, path, "rb")) for path in sorted(folder.glob("*/*.jpg"))]  # type: ignore[arg-type]
    modality = ImageModality(size, canvas=4 * round(size * 1.25 / 4) if size < 224 else 256)
    images, keys = OnDisk(pictures, modality, threads=2), keyed.fold(2, torch.arange(len(pictures)))

    def block(number: int) -> float:
        start = time.perf_counter()
        for index in torch.arange(len(images)).split(BATCH):
            raw = images.raw(index)
            for view in range(2 + small):
                modality.view(raw, "augmented" if view < 2 else "local", keyed.fold(keys[index], number, view))  # type: ignore[arg-type,index]
        return time.perf_counter() - start

    with Peer("folder", 2, folder=str(folder), size=size, local=local_size(size), locals=small, batch=BATCH) as peer:
        block(0), peer.ask("lightly")
        pairs = [(block(repeat), peer.ask("lightly")) for repeat in range(1, repeats + 1)]
    rates = ", ".join(
        f"{who} {len(images) / sorted(times)[len(times) // 2]:.0f}/s" for who, times in zip(("ours", "lightly"), zip(*pairs, strict=True), strict=True)
    )
    return line(name, [theirs / ours for ours, theirs in pairs], f"x lightly ({rates})", None, "ImageFolder and lightly", peer.versions["lightly"], least=2.0)
