"""512 crops of 224 px with colours, blur and solarise out of canvases of 256 px: the kernels and their reference, in values and in milliseconds.

``crops`` is loaded from its file: its room would import what such a machine may not have.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from understudy import keyed

SIDE, SIZE, COUNT = 256, 224, 512
LUMA = (0.213, 0.715, 0.072)


def measure() -> Iterator[tuple[str, float, str, str]]:
    crops = loaded()
    image = keyed.integers(keyed.fold(1, torch.arange(COUNT, device="cuda")), 256, (3, 16, 16)).float()
    image = torch.nn.functional.interpolate(image, size=SIDE, mode="bicubic").clamp(0, 255).to(torch.uint8)
    options = drawn(crops, keyed.fold(2, torch.arange(COUNT, device="cuda")))  # type: ignore[arg-type]
    for fused in (False, True):
        crops.FUSED = fused
        yield f"{COUNT} crops, {'Triton' if fused else 'PyTorch'}", milliseconds(lambda: crops.crop(image, **options)), "ms", "<= 15"
    found = crops.crop(image, **options)
    crops.FUSED = False
    wrong = (found - crops.crop(image, **options)).abs() > 1e-4
    yield "pixels further than 1e-4 from the reference", float(wrong.float().mean()), "share", "<= 0.001"


def loaded() -> ModuleType:
    folder = Path(__file__).parents[2] / "src/understudy/data/modalities"
    for name in ("crops_triton", "crops"):
        spec = importlib.util.spec_from_file_location(f"understudy.data.modalities.{name}", folder / f"{name}.py")
        assert spec and spec.loader
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
    # ``crops`` looks its kernels up by their full name, whose packages need not be imported for real.
    for name in ("understudy.data", "understudy.data.modalities"):
        package = sys.modules.setdefault(name, ModuleType(name))
        package.crops_triton = sys.modules["understudy.data.modalities.crops_triton"]  # type: ignore[attr-defined]
    return sys.modules["understudy.data.modalities.crops"]


def drawn(crops: ModuleType, keys: Tensor) -> dict[str, Any]:
    """What the view ``augmented`` draws, but for the hue."""
    u = keyed.uniform(keys, (12,)).unbind(1)
    root, stretch = torch.sqrt(u[0] * 0.8 + 0.2), keyed.exp((u[1] * 2 - 1) * (0.5 * math.log(4 / 3))).float()
    width, height = (root * stretch).clamp_max(1.0) * SIDE, (root / stretch).clamp_max(1.0) * SIDE
    boxes = crops.Boxes((SIDE - height) * u[3], (SIDE - width) * u[2], height, width, u[4] < 0.5)
    jittered = u[5] < 0.8
    brightness, contrast, saturation = (torch.where(jittered, u[i] * 2 * reach + 1 - reach, 1.0) for i, reach in ((6, 0.4), (7, 0.4), (8, 0.2)))
    saturation = torch.where(u[9] < 0.2, 0.0, saturation)[:, None, None]
    grey, one = torch.tensor((LUMA,) * 3, device=keys.device), torch.eye(3, device=keys.device)
    matrix = (grey * (1 - saturation) + one * saturation) * (brightness * contrast)[:, None, None]
    colours = torch.cat([matrix, ((1 - contrast) * brightness)[:, None, None].expand(-1, 3, 1)], 2)
    blur = crops.Blur(u[10] < 0.5, keyed.uniform(keyed.fold(keys, "blur"), (), 0.1, 2.0), 6)
    return {"boxes": boxes, "longest": float(SIDE), "size": SIZE, "colours": colours, "blur": blur, "solarised": u[11] < 0.1}


def milliseconds(what: Callable[[], Any], repeats: int = 20) -> float:
    """Median on the device's clock."""
    for _ in range(3):
        what()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        what()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return median(times)
