"""A Barlow Twins step of ViT-S/16, two views of 224 px, batch 256, bf16: source images a second, and the share of it that forward and backward alone take."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.gpu.crops import SIDE, SIZE, drawn, loaded, milliseconds
from understudy import keyed

BATCH, WIDTH, HEADS, DEPTH = 256, 384, 6, 12


class Block(nn.Module):
    """Attention and MLP, normalised before."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))


class ViT(nn.Module):
    """ViT-S/16, the mean of its tokens, and a projector."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 16, 16)
        self.places = nn.Parameter(torch.randn(1, (SIZE // 16) ** 2, WIDTH) * 0.02)
        self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
        self.projector = nn.Sequential(nn.Linear(WIDTH, 2048, bias=False), nn.BatchNorm1d(2048), nn.ReLU(), nn.Linear(2048, 2048, bias=False))

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches((pixels - 0.5) / 0.25).flatten(2).transpose(1, 2) + self.places
        return self.projector(self.blocks(x).mean(1))


def barlow(a: Tensor, b: Tensor) -> Tensor:
    a, b = ((z.float() - z.float().mean(0)) / (z.float().std(0) + 1e-5) for z in (a, b))
    c = a.T @ b / len(a)
    on = torch.diagonal(c)
    return (on - 1).square().sum() + 0.005 * (c.square().sum() - on.square().sum())


def measure() -> Iterator[tuple[str, float, str, str]]:
    torch.manual_seed(0)
    crops, net = loaded(), ViT().cuda()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    run = torch.compile(net)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, device="cuda")
    keys = keyed.fold(3, torch.arange(BATCH, device="cuda"))
    counter = iter(range(10**9))

    def views() -> tuple[Tensor, Tensor]:
        step = next(counter)
        first, second = (crops.crop(images, **drawn(crops, keyed.fold(keys, step, i))) for i in (0, 1))  # type: ignore[arg-type]
        return first, second

    def learn(first: Tensor, second: Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            za, zb = run(torch.cat([first, second])).chunk(2)
        barlow(za, zb).backward()

    def step() -> None:
        learn(*views())
        optimizer.step()
        optimizer.zero_grad()

    fixed = views()
    alone = milliseconds(lambda: learn(*fixed))
    for fused in (False, True):
        crops.FUSED = fused
        whole = milliseconds(step)
        yield f"ViT-S/16 step, {'Triton' if fused else 'PyTorch'} views", BATCH / whole * 1e3, "source images/s", ">= 2200"
        yield "  forward and backward alone over the step", alone / whole, "share", ">= 0.85"
