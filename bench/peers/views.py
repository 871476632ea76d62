"""Two views or eight crops of decoded images by torchvision v2 (uint8 tensors), lightly (PIL) and kornia (batched), all with the same probabilities and ranges.

torchvision and lightly work sample by sample in a DataLoader: in the process itself on one core, in two workers on two. kornia has the batch and the threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import kornia.augmentation as K
import numpy as np
import torch
from lightly.transforms.byol_transform import BYOLView1Transform
from lightly.transforms.dino_transform import DINOViewTransform
from lightly.transforms.multi_view_transform import MultiViewTransform
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from bench.peers.serving import serve, settings

GLOBAL, LOCAL = (0.2, 1.0), (0.05, 0.4)


def kernel(size: int) -> int:
    """A tenth of the view, as SimCLR has it, and odd."""
    return max(3, min(13, int(0.1 * size) // 2 * 2 + 1))


def torchvision_view(size: int, scale: tuple[float, float]) -> Callable[..., Any]:
    return v2.Compose([
        v2.RandomResizedCrop(size, scale, antialias=True), v2.RandomHorizontalFlip(), v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
        v2.RandomGrayscale(0.2), v2.RandomApply([v2.GaussianBlur(kernel(size), (0.1, 2.0))], 0.5), v2.RandomSolarize(128, 0.1),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip


def lightly_view(size: int, scale: tuple[float, float]) -> Callable[..., Any]:
    if scale == GLOBAL:
        return BYOLView1Transform(size, min_scale=0.2, gaussian_blur=0.5, solarization_prob=0.1, normalize=None)
    jitter = {"cj_strength": 1.0, "cj_bright": 0.4, "cj_contrast": 0.4, "cj_sat": 0.2, "cj_hue": 0.1}
    return DINOViewTransform(size, scale, **jitter, gaussian_blur=0.5, solarization_prob=0.1, normalize=None)


def kornia_view(size: int, scale: tuple[float, float]) -> nn.Module:
    return nn.Sequential(
        K.RandomResizedCrop((size, size), scale=scale), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8), K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((kernel(size), kernel(size)), (0.1, 2.0), p=0.5), K.RandomSolarize(0.0, 0.0, p=0.1),
    )  # fmt: skip


class Images(Dataset):
    """The images again and again, as tensors or as PIL images, each seen ``views`` ways."""

    def __init__(self, images: torch.Tensor, transform: Callable[..., Any], as_pil: bool):
        self.images: Sequence[Any] = [Image.fromarray(i.permute(1, 2, 0).contiguous().numpy()) for i in images] if as_pil else list(images)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(self.images[index])


class Each:
    """Several views of one image."""

    def __init__(self, views: Sequence[Callable[..., Any]]):
        self.views = views

    def __call__(self, image: Any) -> list[Any]:
        return [view(image) for view in self.views]


def main() -> None:
    given = settings()
    images = torch.from_numpy(np.load(given["images"]))
    crops = [(given["size"], GLOBAL)] * 2 + [(given["local"], LOCAL)] * given["locals"]
    loading = {"batch_size": given["batch"], "num_workers": 0 if given["cores"] == 1 else given["cores"]}
    loaders = {
        name: DataLoader(Images(images, transform, name == "lightly"), **loading, persistent_workers=loading["num_workers"] > 0)
        for name, transform in {
            "torchvision": Each([torchvision_view(*crop) for crop in crops]),
            "lightly": MultiViewTransform([lightly_view(*crop) for crop in crops]),
        }.items()
    }
    batched = [kornia_view(*crop) for crop in crops]

    def block(contestant: str) -> float:
        start = time.perf_counter()
        if contestant == "kornia":
            for pixels in images.split(given["batch"]):
                pixels = pixels.float().div_(255.0)
                for view in batched:
                    view(pixels)
        else:
            for _ in loaders[contestant]:
                pass
        return time.perf_counter() - start

    torch.set_grad_enabled(False)
    serve(block, "torchvision", "lightly", "kornia")


if __name__ == "__main__":
    main()
