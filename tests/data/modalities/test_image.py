from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from understudy import keyed
from understudy.data.modalities import image as module
from understudy.data.modalities.image import ImageModality
from understudy.errors import UserError

KEYS = keyed.fold(3, torch.arange(200))


def ramp(size: int = 32, channels: int = 3, samples: int = 200) -> dict[str, torch.Tensor]:
    """Every pixel of a sample differs from the others, as far as bytes go."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    planes = torch.stack([x * 255 // (size - 1), y * 255 // (size - 1), (x + y) * 255 // (2 * size - 2)])[:channels]
    return {"image": planes.to(torch.uint8).expand(samples, -1, -1, -1)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["plain", "weak", "strong", "augmented", "crop", "local"])
def test_pixels_are_floats_between_0_and_1(name: str, channels: int) -> None:
    inputs = ImageModality(24, channels, 32).view(ramp(channels=channels), name, KEYS).inputs["pixels"]
    assert inputs.dtype == torch.float32
    assert inputs.shape == (200, channels, *(2 * [12 if name == "local" else 24]))
    assert inputs.min() >= 0 and inputs.max() <= 1 and inputs.std() > 0.1


def test_plain_keeps_the_bytes() -> None:
    raw = ramp()
    assert torch.equal(ImageModality(32).view(raw, "plain", KEYS).inputs["pixels"], raw["image"] / 255)


def test_plain_resizes_without_moving() -> None:
    small = ImageModality(16, canvas=32).view(ramp(), "plain", KEYS).inputs["pixels"][0]
    expected = ramp()["image"][0].float().unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4)) / 255
    torch.testing.assert_close(small, expected, atol=1e-5, rtol=0)


def test_weak_moves_by_whole_pixels_with_mirrored_borders() -> None:
    raw, reach = ramp(samples=1), 4
    padded = np.pad(raw["image"][0].numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    allowed = {padded[:, y : y + 32, x : x + 32][:, :, ::step].tobytes() for y in range(9) for x in range(9) for step in (1, -1)}
    views = ImageModality(32).view(ramp(), "weak", KEYS).inputs["pixels"] * 255
    seen = {v.round().to(torch.uint8).numpy().tobytes() for v in views}
    assert seen <= allowed and len(seen) > 90


@pytest.mark.parametrize("name", ["weak", "strong", "crop", "augmented"])
def test_flip_is_the_owners_decision(name: str) -> None:
    def falling(flip: bool) -> float:
        """Share of the views in which the left-to-right ramp falls."""
        pixels = ImageModality(32, 1, flip=flip).view(ramp(channels=1), name, KEYS).inputs["pixels"]
        return float((pixels[..., :16].mean((1, 2, 3)) > pixels[..., 16:].mean((1, 2, 3))).float().mean())

    assert 0.35 < falling(True) < 0.65
    assert falling(False) < 0.2  # solarised ones fall, too


def test_crop_keeps_its_scale() -> None:
    def spread(scale: tuple[float, float]) -> torch.Tensor:
        pixels = ImageModality(32, 3).view(ramp(), "crop", KEYS, scale=scale).inputs["pixels"]
        return (pixels[:, 0].amax((1, 2)) - pixels[:, 0].amin((1, 2))) * (pixels[:, 1].amax((1, 2)) - pixels[:, 1].amin((1, 2)))

    assert spread((1.0, 1.0)).mean() > 0.8
    quarter = spread((0.25, 0.25))
    assert 0.15 < quarter.mean() < 0.27 and quarter.std() < 0.05


def test_local_size() -> None:
    assert [module.local_size(s) for s in (8, 28, 32, 224)] == [4, 12, 16, 96]
    assert ImageModality(32).view(ramp(), "local", KEYS, size=8).inputs["pixels"].shape[-1] == 8


def test_resample_against_rotated_coordinates() -> None:
    """A quarter turn moves pixels onto pixels."""
    raw = ramp(samples=2)["image"]
    zero, one = torch.zeros(2), torch.ones(2)
    turned = module._resample(raw, ((zero, -one, zero), (one, zero, zero)), 32)
    torch.testing.assert_close(turned, torch.rot90(raw, 1, (2, 3)).float(), atol=1e-2, rtol=0)


def test_circle_is_one() -> None:
    cosine, sine = module._circle(torch.tensor([0.0, math.tan(math.pi / 12), -1.0]))
    torch.testing.assert_close(cosine, torch.tensor([1.0, math.cos(math.pi / 6), 0.0]))
    torch.testing.assert_close(sine, torch.tensor([0.0, 0.5, -1.0]))


def test_colours_against_matrices() -> None:
    x = keyed.uniform(1, (4, 3), 90.0, 160.0)
    gain, share, saturation, angle = (
        torch.tensor([1.0, 0.7, 0.9, 1.0]),
        torch.tensor([0.0, 0.3, 0.1, 0.0]),
        torch.tensor([1.0, 0.5, 0.0, 1.0]),
        torch.tensor([0.0, 0.0, 0.4, 0.3]),
    )
    grey, mean = np.tile(module.LUMA, (3, 1)), 120.0
    expected = []
    for i in range(4):
        s, a = saturation[i].item(), angle[i].item()
        matrix = grey + s * np.cos(a) * (np.eye(3) - grey) + s * np.sin(a) * np.array(module.HUE)
        expected.append(gain[i].item() * matrix @ x[i].double().numpy() + share[i].item() * mean)
    colours = module._colours(3, gain, share, saturation * angle.cos(), saturation * angle.sin())
    found = torch.einsum("bij,bj->bi", colours, torch.cat([x, torch.full((4, 1), mean)], 1))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)
    still = angle == 0
    recoloured = module._recolour(x[still, :, None, None].clone(), gain[still], share[still] * mean, saturation[still]).squeeze()
    np.testing.assert_allclose(recoloured.numpy(), np.array(expected)[still.numpy()], atol=1e-3)
    assert torch.equal(module._colours(1, gain, share, saturation, angle)[:, 0], torch.stack([gain, share], 1))


def test_strong_uses_every_operation() -> None:
    drawn = keyed.choice(keyed.fold(KEYS, "operations"), len(module.OPERATIONS), 2)
    assert (drawn[:, 0] != drawn[:, 1]).all() and set(drawn.flatten().tolist()) == set(range(len(module.OPERATIONS)))
    views = ImageModality(32, 3).view(ramp(), "strong", KEYS).inputs["pixels"]
    cut = (views * 255 == 127.5).all(1).flatten(1).float().mean(1)
    assert 0.02 < cut.mean() < 0.12 and cut.max() <= 0.3


def test_colours_of_augmented() -> None:
    constant = {"image": torch.tensor([200, 80, 40], dtype=torch.uint8)[None, :, None, None].expand(200, 3, 8, 8)}
    colours = ImageModality(8).view(constant, "augmented", KEYS, blur=0.0, solarise=0.0).inputs["pixels"].mean((2, 3)) * 255
    grey = ((colours.amax(1) - colours.amin(1)) < 1).float().mean()
    untouched = ((colours - torch.tensor([200.0, 80, 40])).abs().amax(1) < 0.1).float().mean()
    assert 0.12 < grey < 0.28 and 0.08 < untouched < 0.24


def test_a_patch_that_does_not_fit() -> None:
    with pytest.raises(UserError, match="patches of 5"):
        ImageModality(32).view(ramp(), "masked", KEYS, patch=5)


RED = np.zeros((6, 6, 3), np.uint8) + np.array([255, 0, 0], np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(RED), (255, 0, 0)),
        (Image.fromarray(RED).convert("CMYK"), (255, 0, 0)),
        (Image.fromarray(RED).convert("P"), (255, 0, 0)),
        (Image.new("RGBA", (6, 6), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (6, 6), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("LA", (6, 6), (0, 0)), (255, 255, 255)),
        (Image.new("1", (6, 6), 1), (255, 255, 255)),
        (Image.new("L", (6, 6), 77), (77, 77, 77)),
        (Image.fromarray(np.full((6, 6), 32896, np.uint16)), (128, 128, 128)),
        (Image.fromarray(np.full((6, 6), 65535, np.int32)), (255, 255, 255)),
        (Image.fromarray(np.full((6, 6), 0.2, np.float32)), (51, 51, 51)),
        (Image.fromarray(np.full((6, 6), 51.0, np.float32)), (51, 51, 51)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_is_read(image: Image.Image, expected: tuple[int, int, int]) -> None:
    encoded = ImageModality(4).encode(image)["image"]
    assert encoded.dtype == torch.uint8 and encoded.shape == (3, 4, 4)
    assert (encoded.int() - torch.tensor(expected)[:, None, None]).abs().max() <= 1
    assert ImageModality(4, channels=1).encode(image)["image"].shape == (1, 4, 4)


def test_a_transparent_palette() -> None:
    image = Image.fromarray(RED).convert("P")
    image.info["transparency"] = image.getpixel((0, 0))
    assert (ImageModality(4).encode(image)["image"] == 255).all()


def test_the_central_square_is_kept_upright() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (ImageModality(10).encode(Image.fromarray(wide))["image"] == 200).all()
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3)
    image.getexif()[274] = 6  # turned by 90 degrees
    turned = ImageModality(8, 1).encode(image)["image"][0].numpy()
    np.testing.assert_array_equal(turned, np.rot90(np.asarray(image), -1))


def test_wrong_channels() -> None:
    with pytest.raises(UserError, match="1 or 3 channels"):
        ImageModality(32, channels=4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ImageModality.views)
def test_cuda_sees_the_same_pictures(name: str) -> None:
    modality, raw = ImageModality(24, 3, 32), ramp()
    expected = modality.view(raw, name, KEYS)
    found = modality.view({"image": raw["image"].cuda()}, name, KEYS.cuda())
    difference = (found.inputs["pixels"].cpu() - expected.inputs["pixels"]).abs()
    assert (difference > 1e-3).float().mean() < 0.01  # a step of posterise or solarise may fall on the other side
    assert expected.masked is None or torch.equal(found.masked.cpu(), expected.masked)
