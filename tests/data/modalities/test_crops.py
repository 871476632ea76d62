"""Crops against dense matrices in float64, and against PyTorch's own resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from understudy import keyed
from understudy.data.modalities import crops

N = 9


def canvases(side: int, channels: int) -> torch.Tensor:
    coarse = keyed.integers(5, 256, (N, channels, side // 4, side // 4)).float()
    return torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 255).to(torch.uint8)


def boxes(side: int) -> crops.Boxes:
    u = keyed.uniform(7, (5, N))
    height, width = (0.3 + 0.7 * u[0]) * side, (0.3 + 0.7 * u[1]) * side
    return crops.Boxes((side - height) * u[2], (side - width) * u[3], height, width, u[4] < 0.5)


def everything(channels: int) -> dict:
    u = keyed.uniform(8, (N, channels, channels + 1), -0.3, 0.3)
    u[:, :, :channels] += torch.eye(channels)
    blur = crops.Blur(torch.arange(N) % 2 == 0, keyed.uniform(9, (N,), 0.3, 2.0), 3)
    return {"colours": u, "blur": blur, "solarised": torch.arange(N) % 3 == 0}


def triangles(start: float, length: float, side: int, size: int) -> np.ndarray:
    """The dense matrix ``[size, side]`` of a resizing by triangles."""
    scale = length / size
    matrix = np.zeros((size, side))
    for i in range(size):
        centre, reach = start + (i + 0.5) * scale, max(scale, 1.0)
        for j in range(-2 * side, 3 * side):
            matrix[i, min(max(j, 0), side - 1)] += max(0.0, 1.0 - abs(j + 0.5 - centre) / reach)
    return matrix / matrix.sum(1, keepdims=True)


def gaussian(sigma: float, radius: int, size: int) -> np.ndarray:
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    padded = np.pad(np.eye(size), ((radius, radius), (0, 0)), mode="reflect")
    return sum(w * padded[k : k + size] for k, w in enumerate(weights / weights.sum()))


def reference(image: np.ndarray, box: crops.Boxes, i: int, size: int, colours: torch.Tensor, blur: crops.Blur, solarised: torch.Tensor) -> np.ndarray:
    side = image.shape[-1]
    down = triangles(float(box.top[i]), float(box.height[i]), side, size)
    across = triangles(float(box.left[i]), float(box.width[i]), side, size)
    across = across[::-1] if box.mirrored[i] else across
    matrix = colours[i].double().numpy()
    x = np.einsum("yh,xw,dc,chw->dyx", down, across, matrix[:, :-1], image / 255.0) + (matrix[:, -1] * image.mean() / 255.0)[:, None, None]
    x = x.clip(0, 1)
    if blur.chosen[i]:
        kernel = gaussian(float(blur.sigma[i]), blur.radius, size)
        x = np.einsum("yh,xw,chw->cyx", kernel, kernel, x)
    return np.where((x >= 128 / 255) & bool(solarised[i]), 1 - x, x)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "size"), [(32, 32), (32, 12), (20, 36), (64, 17), (128, 48)])
def test_against_dense_matrices(side: int, size: int, channels: int) -> None:
    image, box, options = canvases(side, channels), boxes(side), everything(channels)
    found = crops.crop(image, box, side, size, **options)
    assert found.dtype == torch.float32 and found.shape == (N, channels, size, size)
    for i in range(N):
        expected = reference(image[i].double().numpy(), box, i, size, **options)
        wrong = np.abs(found[i].numpy() - expected) > 1e-5
        assert wrong.mean() < (2e-3 if options["solarised"][i] else 1e-9)  # one that is inverted or not for a rounding's sake


@pytest.mark.parametrize(("side", "size"), [(64, 16), (48, 20), (32, 64)])
def test_whole_canvas_against_interpolate(side: int, size: int) -> None:
    image, zero, whole = canvases(side, 3), torch.zeros(N), torch.full((N,), float(side))
    found = crops.crop(image, crops.Boxes(zero, zero, whole, whole, zero > 0), side, size)
    expected = torch.nn.functional.interpolate(image.double() / 255, size=size, mode="bilinear", antialias=True)
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # at borders they leave out what we repeat
    torch.testing.assert_close(found[inner].double(), expected[inner], atol=1e-6, rtol=0)


@pytest.mark.parametrize("plain", [False, True])
def test_blocks_threads_and_flags_change_no_bit(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    image, box, options = canvases(32, 3), boxes(32), {} if plain else everything(3)
    whole = crops.crop(image, box, 32, 24, **options)
    with monkeypatch.context() as patch:
        patch.setattr(crops, "_near", lambda image: False)
        assert torch.equal(crops.crop(image, box, 32, 24, **options), whole)
    monkeypatch.setattr(crops, "BLOCK", 1)
    threads = torch.get_num_threads()
    try:
        for count, shared in ((1, 1 << 30), (2, 1 << 30), (2, 1), (2, 1 << 13)):
            monkeypatch.setattr(crops, "SHARED", shared)
            torch.set_num_threads(count)
            assert torch.equal(crops.crop(image, box, 32, 24, **options), whole) and torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


def test_a_canvas_of_another_layout() -> None:
    image, box = canvases(32, 3), boxes(32)
    turned = image.contiguous(memory_format=torch.channels_last)
    assert torch.equal(crops.crop(turned, box, 32, 24, **everything(3)), crops.crop(image, box, 32, 24, **everything(3)))


def test_no_sample() -> None:
    empty = torch.zeros(0)
    assert crops.crop(torch.zeros(0, 3, 8, 8, dtype=torch.uint8), crops.Boxes(empty, empty, empty, empty, empty > 0), 8, 4).shape == (0, 3, 4, 4)
