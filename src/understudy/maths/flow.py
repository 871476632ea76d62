"""The straight path from an image to noise, and how a velocity field leads back: flow matching (2210.02747; rectified flow, 2209.03003; SiT, 2401.08740).

Times ``t`` ``[B]`` run from 0, the image, to 1, the noise; images and noise are ``[B, ...]``.
"""

from __future__ import annotations

from torch import Tensor


def noised(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x + t e."""
    return clean + _wide(t, clean) * (noise - clean)


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """dx_t / dt = e - x, what a flow model learns."""
    return noise - clean


def cleaned(noisy: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The image that a velocity at x_t points back to: x_t - t v."""
    return noisy - _wide(t, noisy) * v


def signal_step(signal: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """From y_t to y_s, s < t: what lies between image and noise without its noise, y_t = (x_t - t e) / (1 - t), after a step of DDIM towards the image ``clean`` (BOOT, 2306.05544).

    y_s = r y_t + (1 - r) clean with r = s (1 - t) / (t (1 - s)): the noise-to-signal ratio at s over that at t. From t = 1, where there is no signal, it is ``clean``.
    """
    r = _wide(s * (1 - t) / (t * (1 - s)), signal)
    return r * signal + (1 - r) * clean


def _wide(t: Tensor, like: Tensor) -> Tensor:
    return t.view(-1, *[1] * (like.dim() - 1))
