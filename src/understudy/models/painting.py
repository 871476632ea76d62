"""Images out of noise, by a student whose backbone is a flow model."""

from __future__ import annotations

import math

import torch
from PIL import Image
from torch import Tensor

from understudy import keyed
from understudy.errors import UserError
from understudy.models.dit import DiT
from understudy.models.predict import device_of, evaluating
from understudy.models.student import Student


def painter(student: Student, what: str = "this") -> DiT:
    """The student's flow model. Raises UserError where it has none; ``what`` needs it."""
    if not isinstance(student.backbone, DiT):
        raise UserError(f"{what} needs a model that makes images, and {student.spec['name']} makes none; use tiny-dit, small-dit or base-dit")
    return student.backbone


def noise(model: DiT, keys: Tensor) -> Tensor:
    """Standard normal noise ``[N, C, H, W]`` in the model's shape, of the keys int64 ``[N]``."""
    side = -(-model.size // model.patch) * model.patch  # type: ignore[operator]
    return keyed.normal(keyed.fold(keys, "noise"), (model.channels, side, side))


def jumped(model: DiT, start: Tensor, t: Tensor) -> Tensor:
    """What a student that jumps (``boot``) makes of noise at once: the signal at time ``t`` of the path that begins there, e - net(e, t)."""
    return start - model.velocity(start, t)[0]


def paint(student: Student, keys: Tensor, steps: int = 50, batch: int = 256) -> Tensor:
    """Images float32 ``[N, C, size, size]`` in [0, 1], on the CPU; each a pure function of its key, whatever the batch (but for the last bits of its sums).

    Euler's method from noise to image in ``steps`` equal steps, which on the straight path is DDIM. A student whose specification says ``jumps`` takes one, whatever is asked.
    Raises UserError where the student makes no images.
    """
    model, device, made = painter(student, "painting"), device_of(student), []
    with evaluating(student):
        for part in keys.split(batch):
            x = noise(model, part.to(device))
            if student.spec.get("jumps"):
                x = jumped(model, x, x.new_zeros(len(x)))
            else:
                for step in range(steps, 0, -1):
                    x = x - model.velocity(x, x.new_full((len(x),), step / steps))[0] / steps
            made.append(((x + 1) / 2).clamp(0, 1)[:, :, : model.size, : model.size].cpu())
    return torch.cat(made)


def sheet(pixels: Tensor) -> Image.Image:
    """Images ``[N, C, h, w]`` side by side on one nearly square sheet."""
    columns = math.ceil(math.sqrt(len(pixels)))
    rows = -(-len(pixels) // columns)
    filled = torch.cat([pixels, pixels.new_ones(rows * columns - len(pixels), *pixels.shape[1:])])
    grid = filled.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # [rows h, columns w, C]
    return Image.fromarray((grid * 255).round().to(torch.uint8).squeeze(-1).numpy())
