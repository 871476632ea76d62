"""``python -m bench.gpu [NAME ...]``: every file of this folder, its ``measure()`` a sequence of lines (what, value, unit, target)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("python -m bench.gpu needs a CUDA device, and PyTorch sees none here")
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__, "CUDA", torch.version.cuda, flush=True)
    for name in sys.argv[1:] or sorted(p.stem for p in Path(__file__).parent.glob("[!_]*.py")):
        for what, value, unit, target in importlib.import_module(f"bench.gpu.{name}").measure():
            print(f"{what:44} {value:10.3f} {unit:24} target {target}", flush=True)


if __name__ == "__main__":
    main()
