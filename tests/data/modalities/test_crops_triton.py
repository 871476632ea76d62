"""The Triton kernels in Triton's interpreter, which runs them on a CPU, against the reference. The interpreter has to be chosen before Triton is imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")


def test_in_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def compare(side: int, size: int, channels: int, plain: bool) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import test_crops as reference

    from understudy.data.modalities import crops

    image, box = reference.canvases(side, channels), reference.boxes(side)
    options = {} if plain else reference.everything(channels)
    expected = crops.crop(image, box, side, size, **options)
    taps = max(2, -(-2 * side // size))
    blur = options.get("blur")
    kernel = None if blur is None else crops._gaussian(blur)
    found = crops.fused(image, box, size, taps, options.get("colours"), None if blur is None else blur.chosen, kernel, options.get("solarised"))
    wrong = (found - expected).abs() > 1e-5
    assert wrong.float().mean() < 1e-3, (side, size, channels, plain, float(wrong.float().mean()))  # a few are inverted or not for a rounding's sake


if __name__ == "__main__":
    torch.set_num_threads(1)
    for side, size, channels in ((32, 32, 3), (32, 12, 3), (20, 36, 1), (64, 17, 3)):
        for plain in (True, False):
            compare(side, size, channels, plain)
