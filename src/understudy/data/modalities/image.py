"""Images: decoded once to a square canvas of bytes, viewed in batches on the device of the canvas.

Every view is one resampling of the canvas (crop, flip, rotation, shear, shift and zoom are one matrix per sample; upright boxes have a faster
way, see ``crops``), one linear map of the colours per sample, and a few pointwise steps. Two rules keep a sample's pixels the same bits in any
batch: angles come from the rational parametrisation of the circle, since sines differ between vector and scalar code; and no floating-point
sum over pixels has more than one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from understudy import keyed
from understudy.data.modalities import crops
from understudy.data.modalities.masking import hide
from understudy.data.samples import Inputs, View
from understudy.errors import UserError

LUMA = (0.213, 0.715, 0.072)
HUE = ((-0.213, -0.715, 0.928), (0.143, 0.140, -0.283), (-0.787, 0.715, 0.072))
"""The part of a hue rotation that goes with the sine (W3C Filter Effects, feColorMatrix, hueRotate); its rows sum to 0, so grey stays grey."""

OPERATIONS = (
    "identity", "autocontrast", "brightness", "contrast", "colour", "posterise", "solarise",
    "rotate", "shear x", "shear y", "translate x", "translate y", "zoom",
)  # fmt: skip
"""What ``strong`` draws two of: the list of FixMatch (arXiv 2001.07685, appendix D) with zoom in place of equalise and sharpness."""

Matrix = tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Where in the canvas a pixel of a view lies: x = a X + b Y + c and y = d X + e Y + f, each ``[B]``; both squares span [-1, 1]."""
Draw = Callable[[str, float, float, float], Tensor]
"""The strength ``[B]`` of an operation: its name, the least, the greatest, and what it is where the operation does not happen."""


class ImageModality:
    """Square images of ``channels`` (1 or 3) kept at ``canvas`` pixels a side and viewed at ``size``.

    ``flip`` says whether a mirrored image still means the same: set it to False for digits and writing.
    """

    name = "image"
    noun = "images"
    views: tuple[str, ...] = ("plain", "weak", "strong", "augmented", "crop", "local", "masked")

    def __init__(self, size: int, channels: int = 3, canvas: int | None = None, flip: bool = True):
        if channels not in (1, 3):
            raise UserError(f"images have 1 or 3 channels, not {channels}: choose channels=1 for grey and channels=3 for colour")
        if size < 1 or (canvas is not None and canvas < 1):
            raise UserError(f"an image needs a size of at least 1 pixel, got size={size} and canvas={canvas}")
        self.size, self.channels, self.canvas, self.flip = size, channels, canvas or size, flip

    def signature(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.size, "channels": self.channels, "canvas": self.canvas, "flip": self.flip}

    @classmethod
    def restore(cls, signature: dict[str, Any], folder: Path | None) -> ImageModality:
        return cls(signature["size"], signature["channels"], signature["canvas"], signature["flip"])

    def shape(self) -> dict[str, Any]:
        return {"channels": self.channels, "size": self.size}

    def examples(self, count: int) -> Inputs:
        keys = keyed.fold(keyed.fold(0, "example"), torch.arange(count))
        return {"image": keyed.integers(keys, 256, (self.channels, self.canvas, self.canvas)).to(torch.uint8)}

    def encode(self, original: Image.Image) -> Inputs:
        """``{"image": uint8 [C, canvas, canvas]}``: upright, on white where transparent, the central square resized with antialiasing."""
        image = _upright_rgb_or_grey(original).convert("L" if self.channels == 1 else "RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        if image.size != (self.canvas, self.canvas):
            image = image.resize((self.canvas, self.canvas), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        pixels = np.atleast_3d(np.array(image, dtype=np.uint8))
        # numpy's copy: torch's would wake a team of threads for every image, beside the thread that decodes it.
        return {"image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))}

    def collate(self, encoded: Sequence[Inputs]) -> Inputs:
        return {"image": torch.stack([e["image"] for e in encoded])}

    def view(self, raw: Inputs, name: str, keys: Tensor, **options: Any) -> View:
        """``{"pixels": float32 [B, C, h, w]}`` in [0, 1].

        ``plain``; ``weak``: moved by up to an eighth with mirrored borders, and flipped; ``strong``: weak, two random operations and a cutout, as in
        FixMatch; ``crop``, ``augmented``, ``local``: random resized crops, the last two with colour changes as in SimCLR (options ``scale``, ``size``,
        and ``blur`` and ``solarise``, their probabilities); ``masked``: view ``base`` with ``ratio`` of its ``patch``-pixel squares hidden.
        """
        match name:
            case "masked":
                return self._masked(raw, keys, **options)
            case "plain":
                pixels = self._plain(raw["image"], **options)
            case "weak":
                pixels = self._weak(raw["image"], keys, **options)
            case "strong":
                pixels = self._strong(raw["image"], keys, **options)
            case "crop":
                return View(name, {"pixels": self._crop(raw["image"], keys, **options)}, keys)
            case "augmented":
                return View(name, {"pixels": self._augmented(raw["image"], keys, **options)}, keys)
            case "local":
                options = {"scale": (0.05, 0.4), "size": local_size(self.size), **options}
                return View(name, {"pixels": self._augmented(raw["image"], keys, **options)}, keys)
            case _:
                raise UserError(f"images have no view '{name}': choose one of {', '.join(self.views)}")
        return View(name, {"pixels": pixels.div_(255.0)}, keys)

    # Pixels of ``_plain``, ``_weak`` and ``_strong`` are in [0, 255]; those of crops, which write each pixel once, in [0, 1].

    def _plain(self, image: Tensor) -> Tensor:
        if image.shape[-1] == self.size:
            return image.to(torch.float32)
        one, zero = image.new_ones(len(image), dtype=torch.float32), image.new_zeros(len(image), dtype=torch.float32)
        return _resample(image, ((one, zero, zero), (zero, one, zero)), self.size)

    def _weak(self, image: Tensor, keys: Tensor) -> Tensor:
        pixels = image if image.shape[-1] == self.size else self._plain(image)
        n, reach = self.size, self.size // 8
        index = (torch.arange(n, device=image.device) + self._shift(keys, reach)).abs()
        index = n - 1 - (n - 1 - index).abs()  # both borders reflect
        rows, columns = index.unbind(1)
        columns = torch.where(self._mirrored(keys).unsqueeze(1), columns.flip(1), columns)
        place = (rows.unsqueeze(2) * n + columns.unsqueeze(1)).flatten(1).unsqueeze(1).expand(-1, pixels.shape[1], -1)
        return pixels.flatten(2).gather(2, place).unflatten(2, (n, n)).to(torch.float32)

    def _shift(self, keys: Tensor, reach: int) -> Tensor:
        """By how many pixels the weak view is moved down and to the right, int64 ``[B, 2, 1]``."""
        return keyed.integers(keyed.fold(keys, "shift"), 2 * reach + 1, (2, 1)) - reach

    def _mirrored(self, keys: Tensor) -> Tensor:
        return keyed.bernoulli(keyed.fold(keys, "flip"), 0.5 if self.flip else 0.0)

    def _strong(self, image: Tensor, keys: Tensor) -> Tensor:
        """Geometry comes before colour, whatever order RandAugment would have drawn: then one resampling and one colour map are enough."""
        on, draw = self._drawn(keys)
        pixels = _resample(image, self._bent(keys, draw), self.size)

        flat = image.flatten(1)
        darkest, brightest = flat.amin(1).to(torch.float32), flat.amax(1).to(torch.float32)
        stretch = torch.where(on["autocontrast"], 255.0 / (brightest - darkest).clamp_min(1.0), 1.0)
        offset = torch.where(on["autocontrast"], -darkest * stretch, 0.0)
        brightness, contrast = draw("brightness", 0.05, 0.95, 1.0), draw("contrast", 0.05, 0.95, 1.0)
        gain = stretch * brightness * contrast
        offset = contrast * brightness * offset + (1.0 - contrast) * _mean(flat)
        pixels = _recolour(pixels, gain, offset, draw("colour", 0.05, 0.95, 1.0))

        step = torch.where(on["posterise"], 1 << keyed.integers(keyed.fold(keys, "bits"), 5), 1).to(torch.float32)[:, None, None, None]
        pixels = pixels.div_(step).floor_().mul_(step)
        pixels = _solarised(pixels, draw("solarise", 0.0, 256.0, 256.0))
        return _cut_out(pixels, keys)

    def _drawn(self, keys: Tensor) -> tuple[dict[str, Tensor], Draw]:
        """Which operations of the strong view happen, bool ``[B]`` each, and how strongly."""
        drawn = keyed.choice(keyed.fold(keys, "operations"), len(OPERATIONS), 2)
        happens = torch.zeros(len(keys), len(OPERATIONS), dtype=torch.bool, device=keys.device).scatter(1, drawn, True)
        on = dict(zip(OPERATIONS, happens.unbind(1), strict=True))
        amount = dict(zip(OPERATIONS, keyed.uniform(keyed.fold(keys, "magnitudes"), (len(OPERATIONS),)).unbind(1), strict=True))

        def draw(name: str, low: float, high: float, otherwise: float) -> Tensor:
            return torch.where(on[name], amount[name] * (high - low) + low, otherwise)

        return on, draw

    def _bent(self, keys: Tensor, draw: Draw) -> Matrix:
        """The geometry of the strong view."""
        cosine, sine = _circle(draw("rotate", -0.268, 0.268, 0.0))  # 30 degrees; 0.3 of the side for shears and shifts
        shear_x, shear_y, zoom = draw("shear x", -0.3, 0.3, 0.0), draw("shear y", -0.3, 0.3, 0.0), draw("zoom", 0.7, 1.3, 1.0)
        weak_x, weak_y = keyed.uniform(keyed.fold(keys, "shift"), (2,), -0.25, 0.25).unbind(1)
        mirror = torch.where(self._mirrored(keys), -1.0, 1.0)
        x = (zoom * (cosine - sine * shear_y), zoom * (cosine * shear_x - sine), draw("translate x", -0.6, 0.6, 0.0) + weak_x)
        y = (zoom * (sine + cosine * shear_y), zoom * (sine * shear_x + cosine), draw("translate y", -0.6, 0.6, 0.0) + weak_y)
        return (x[0] * mirror, x[1] * mirror, x[2] * mirror), y

    def place(self, name: str, keys: Tensor, scale: tuple[float, float] = (0.2, 1.0)) -> Tensor:
        """Where on the canvas the pixels of the view ``name`` with these ``keys`` lie, float32 ``[B, 2, 3]``: as ``View.place``."""
        one, zero = torch.ones(len(keys), device=keys.device), torch.zeros(len(keys), device=keys.device)
        match name:
            case "plain":
                x, y = (one, zero, zero), (zero, one, zero)
            case "weak":
                down, right = (self._shift(keys, self.size // 8).squeeze(2) * (2.0 / self.size)).unbind(1)
                x, y = (torch.where(self._mirrored(keys), -one, one), zero, right), (zero, one, down)
            case "strong":
                x, y = self._bent(keys, self._drawn(keys)[1])
            case "crop" | "augmented":
                boxes, _ = self._boxes(keys, 1, scale)
                across = torch.where(boxes.mirrored, -boxes.width, boxes.width)
                x = (across, zero, 2.0 * boxes.left + boxes.width - 1.0)
                y = (zero, boxes.height, 2.0 * boxes.top + boxes.height - 1.0)
            case _:
                raise UserError(f"the view '{name}' of images has no single place on the canvas: choose plain, weak, strong, crop or augmented")
        return torch.stack([torch.stack(x, 1), torch.stack(y, 1)], 1)

    def _boxes(self, keys: Tensor, side: int, scale: tuple[float, float]) -> tuple[crops.Boxes, float]:
        """Of random resized crops: area uniform in ``scale``, aspect log-uniform in [3/4, 4/3], cut where it would leave the canvas; and the longest side."""
        u = keyed.uniform(keyed.fold(keys, "crop"), (4,)).unbind(1)
        root = torch.sqrt(u[0] * (scale[1] - scale[0]) + scale[0])
        stretch = keyed.exp((u[1] * 2.0 - 1.0) * (0.5 * math.log(4 / 3))).to(torch.float32)
        width, height = (root * stretch).clamp_max(1.0) * side, (root / stretch).clamp_max(1.0) * side
        boxes = crops.Boxes((side - height) * u[3], (side - width) * u[2], height, width, self._mirrored(keys))
        return boxes, side * min(1.0, math.sqrt(scale[1] * 4 / 3))

    def _crop(self, image: Tensor, keys: Tensor, scale: tuple[float, float] = (0.2, 1.0), size: int | None = None) -> Tensor:
        """Random resized crop and a flip."""
        return crops.crop(image, *self._boxes(keys, image.shape[-1], scale), size or self.size)

    def _augmented(
        self, image: Tensor, keys: Tensor, scale: tuple[float, float] = (0.2, 1.0), size: int | None = None, blur: float = 0.5, solarise: float = 0.1
    ) -> Tensor:
        """Jitter of 0.4 (brightness, contrast), 0.2 (saturation) and 0.1 (hue) with probability 0.8, grey with 0.2: BYOL (arXiv 2006.07733), appendix B.

        Contrast is around the mean of the whole canvas; values are cut to [0, 1] once, after all of the colours; the kernel of the blur spans a tenth
        of the view as in SimCLR, at most 13 pixels.
        """
        size = size or self.size
        u = keyed.uniform(keyed.fold(keys, "colours"), (8,)).unbind(1)
        jittered = u[0] < 0.8
        brightness, contrast, saturation = (torch.where(jittered, u[i] * 2 * reach + (1.0 - reach), 1.0) for i, reach in ((1, 0.4), (2, 0.4), (3, 0.2)))
        saturation = torch.where(u[5] < 0.2, 0.0, saturation)
        cosine, sine = _circle(torch.where(jittered, (u[4] * 2.0 - 1.0) * math.tan(0.1 * math.pi), 0.0))  # 0.1 of a turn, half of the angle
        colours = _colours(image.shape[1], brightness * contrast, (1.0 - contrast) * brightness, saturation * cosine, saturation * sine)
        radius = min(max(1, round(0.05 * size)), 6)
        blurred = crops.Blur(u[6] < blur, keyed.uniform(keyed.fold(keys, "blur"), (), 0.1, 2.0), radius) if blur > 0 else None
        return crops.crop(image, *self._boxes(keys, image.shape[-1], scale), size, colours, blurred, u[7] < solarise if solarise > 0 else None)

    def _masked(self, raw: Inputs, keys: Tensor, ratio: float = 0.75, patch: int = 4, base: str = "plain", **options: Any) -> View:
        seen = self.view(raw, base, keyed.fold(keys, "base"), **options)  # type: ignore[arg-type]
        height, width = seen.inputs["pixels"].shape[-2:]
        if height % patch or width % patch:
            raise UserError(f"a view of {height}x{width} pixels cannot be cut into patches of {patch}: choose a patch that divides the size")
        everywhere = torch.ones(len(keys), (height // patch) * (width // patch), dtype=torch.bool, device=keys.device)
        return View("masked", seen.inputs, keys, hide(keyed.fold(keys, "mask"), everywhere, ratio))  # type: ignore[arg-type]


def local_size(size: int) -> int:
    """Pixels a side of a local crop: 3/7 of ``size`` (96 of 224), up to a multiple of 4."""
    return 4 * math.ceil(size * 3 / 28)


def _upright_rgb_or_grey(image: Image.Image) -> Image.Image:
    """Any mode of PIL as 8-bit RGB or L. 16-bit grey spans 0..65535; floating-point grey spans 0..1, or 0..255 where a value exceeds 1."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257.0).round().astype(np.uint8))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        return Image.fromarray((values * (255.0 if values.max() <= 1.0 else 1.0)).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def _resample(image: Tensor, matrix: Matrix, size: int) -> Tensor:
    """Read ``image`` (``[B, C, S, S]``) at the places of ``matrix``: float32 ``[B, C, size, size]`` in [0, 255], borders mirrored.

    A view of less than two thirds of the canvas's side is sampled finer and averaged, against aliasing.
    """
    finer = max(1, round(image.shape[-1] / size))
    steps = (torch.arange(size * finer, dtype=torch.float32, device=image.device) * 2.0 + 1.0) / (size * finer) - 1.0
    grid = torch.empty(len(image), size * finer, size * finer, 2, device=image.device)
    for axis, (across, down, centre) in enumerate(matrix):
        torch.add((across[:, None] * steps)[:, None, :], (down[:, None] * steps + centre[:, None])[:, :, None], out=grid[..., axis])
    pixels = F.grid_sample(image.to(torch.float32), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    pixels = F.avg_pool2d(pixels, finer) if finer > 1 else pixels
    return pixels.clamp_(0.0, 255.0)


def _circle(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angle whose half has this tangent."""
    square = tangent * tangent
    return (1.0 - square) / (1.0 + square), tangent * 2.0 / (1.0 + square)


def _mean(flat: Tensor) -> Tensor:
    """Mean byte of every row of uint8 ``[B, N]``, as float32: an integer sum is the same in every order."""
    return flat.sum(1, dtype=torch.int64).to(torch.float32) / flat.shape[1]


def _colours(channels: int, gain: Tensor, share: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """``[B, C, C + 1]``: the matrix of ``gain * M x + share * mean``, then the share; M = grey + saturation (1 - grey) + hue K, K the sine part of a hue rotation."""
    if channels == 1:
        return torch.stack([gain, share], 1)[:, None]
    grey, one, turned = (gain.new_tensor(m) for m in ((LUMA,) * 3, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), HUE))
    saturation, hue = saturation[:, None, None], hue[:, None, None]
    matrix = (grey * (1.0 - saturation) + one * saturation + turned * hue) * gain[:, None, None]
    return torch.cat([matrix, share[:, None, None].expand(-1, 3, 1)], 2)


def _recolour(pixels: Tensor, gain: Tensor, offset: Tensor, saturation: Tensor) -> Tensor:
    """In place ``gain * (grey + saturation (x - grey)) + offset`` in [0, 255]; parameters ``[B]``."""
    gain, offset, saturation = gain[:, None, None, None], offset[:, None, None, None], saturation[:, None, None, None]
    if pixels.shape[1] == 3:
        red, green, blue = (pixels[:, i : i + 1] for i in range(3))
        grey = (red * LUMA[0]).add_(green * LUMA[1]).add_(blue * LUMA[2]).mul_(1.0 - saturation)
        pixels = pixels.mul_(saturation).add_(grey)
    return pixels.mul_(gain).add_(offset).clamp_(0.0, 255.0)


def _solarised(pixels: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(pixels < threshold[:, None, None, None], pixels, 255.0 - pixels)


def _cut_out(pixels: Tensor, keys: Tensor) -> Tensor:
    """Half grey on a square of up to half a side, its centre anywhere in the image."""
    height, width = pixels.shape[-2:]
    u = keyed.uniform(keyed.fold(keys, "cutout"), (3,))
    half = u[:, :1] * (0.25 * width)
    rows = (torch.arange(height, device=pixels.device) + 0.5 - u[:, 1:2] * height).abs() < half
    columns = (torch.arange(width, device=pixels.device) + 0.5 - u[:, 2:3] * width).abs() < half
    return pixels.masked_fill_((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 127.5)
