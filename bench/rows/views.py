"""Two views, and two large with six small crops, of decoded uint8 images: seconds of the best peer over ours. Target: 4 at 32 and 96 px, 2 at 224 px.

Crop, flip, jitter, grey, blur, solarise, with the same probabilities and ranges on both sides, out of real photographs; float32 in [0, 1] comes out. Peers
run in an environment of their own (``bench/peers/views.py``). A block of each follows a block of ours, all on the same processors.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_sample_images

from bench import Line, line
from bench.peers import Peer
from bench.peers.serving import pin
from understudy import keyed
from understudy.data.modalities.image import ImageModality, local_size

SIZES = {32: (32, 512, 128, 4.0), 96: (96, 128, 32, 4.0), 224: (256, 32, 8, 2.0)}
"""View: side of the canvas, images in a block, batch, target."""
CONTESTANTS = ("torchvision", "lightly", "kornia")


def measure(part: str, quick: bool) -> Iterator[Line]:
    """``part``: the beginning of 32/two/1core, for instance."""
    for size, (side, count, batch, least) in SIZES.items():
        for crops, small in (("two", 0), ("multi", 6)):
            for cores in (1, 2):
                name = f"{size}/{crops}/{cores}core"
                if name.startswith(part):
                    yield from compared(f"views/{name}", size, photographs(side, count // 2 if quick else count), batch, small, cores, least, 3 if quick else 5)


def photographs(side: int, count: int) -> torch.Tensor:
    """Squares out of two photographs that scikit-learn brings along, uint8 ``[count, 3, side, side]``."""
    pictures = [torch.tensor(p).permute(2, 0, 1) for p in load_sample_images().images]
    height, width = pictures[0].shape[1:]
    places = keyed.integers(keyed.fold(1, torch.arange(count)), 2**30, (2,)) % torch.tensor([height - side, width - side])
    return torch.stack([pictures[i % 2][:, y : y + side, x : x + side] for i, (y, x) in enumerate(places.tolist())])


def compared(name: str, size: int, images: torch.Tensor, batch: int, small: int, cores: int, least: float, repeats: int) -> Iterator[Line]:
    pin(cores)
    modality, keys = ImageModality(size, canvas=images.shape[-1]), keyed.fold(2, torch.arange(len(images)))

    def block(number: int) -> float:
        start = time.perf_counter()
        for index in torch.arange(len(images)).split(batch):
            raw = {"image": images[index]}
            for view in range(2 + small):
                modality.view(raw, "augmented" if view < 2 else "local", keyed.fold(keys[index], number, view))  # type: ignore[arg-type,index]
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images.numpy())
        given = {"images": str(Path(folder) / "images.npy"), "size": size, "local": local_size(size), "locals": small, "batch": batch}
        with Peer("views", cores, **given) as peer:
            times: dict[str, list[float]] = {contestant: [] for contestant in ("ours", *CONTESTANTS)}
            passes = dict.fromkeys(times, 1)
            for repeat in range(-1, repeats):  # the first warms up, and says how often the images have to pass for a third of a second
                for contestant, measured in times.items():
                    seconds = 0.0
                    for i in range(passes[contestant]):
                        seconds += block(100 * repeat + i) if contestant == "ours" else peer.ask(contestant)
                    if repeat >= 0:
                        measured.append(seconds / passes[contestant])
                    else:
                        passes[contestant] = math.ceil(0.33 / seconds)
            best = min(CONTESTANTS, key=lambda contestant: median(times[contestant]))
            rates = "; ".join(f"{contestant} {len(images) / median(measured):.0f}/s" for contestant, measured in times.items())
            ratios = [theirs / ours for ours, theirs in zip(times["ours"], times[best], strict=True)]
            yield line(name, ratios, f"x {best} ({rates})", None, best, peer.versions[best], least=least)
