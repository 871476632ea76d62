"""A folder of JPEGs through torchvision's ImageFolder and lightly's transforms in a DataLoader, two workers on two cores."""

from __future__ import annotations

import time

from lightly.transforms.multi_view_transform import MultiViewTransform
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from bench.peers.serving import serve, settings
from bench.peers.views import GLOBAL, LOCAL, lightly_view


def main() -> None:
    given = settings()
    crops = [(given["size"], GLOBAL)] * 2 + [(given["local"], LOCAL)] * given["locals"]
    images = ImageFolder(given["folder"], MultiViewTransform([lightly_view(*crop) for crop in crops]))
    loader = DataLoader(images, given["batch"], num_workers=given["cores"], persistent_workers=True)

    def block(contestant: str) -> float:
        start = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - start

    serve(block, "lightly", "torchvision")


if __name__ == "__main__":
    main()
