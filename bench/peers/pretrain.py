"""SimCLR in the training loops of lightly (its pieces in a plain loop, as its documentation has it) and of stable-pretraining (its module, on Lightning).

Backbone and projector are those of the other side; views, loss, loader and loop are the peer's own.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.peers.serving import Pace, settings
from understudy import models
from understudy.data.modalities.image import ImageModality
from understudy.models.heads import MLP


class Encoder(nn.Module):
    """The other side's vision transformer, pixels in and one vector out."""

    def __init__(self, size: int, options: dict[str, int]):
        super().__init__()
        self.backbone = models.build("tiny-vit", ImageModality(size), ("a", "b"), key=1, **options).backbone

    def forward(self, pixels: Tensor) -> Tensor:
        return self.backbone({"pixels": pixels}).pooled


class Images(Dataset):
    """PIL images, seen through a transform."""

    def __init__(self, file: str, wrapped: bool, transform: Any):
        self.images = [Image.fromarray(i) for i in np.load(file).transpose(0, 2, 3, 1)]
        self.wrapped, self.transform = wrapped, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform({"image": self.images[index]} if self.wrapped else self.images[index])


def lightly(given: dict[str, Any], encoder: nn.Module, projector: nn.Module) -> None:
    from lightly.loss import NTXentLoss
    from lightly.transforms.multi_view_transform import MultiViewTransform

    from bench.peers.views import GLOBAL, lightly_view

    view = lightly_view(given["size"], GLOBAL)
    loader = DataLoader(
        Images(given["images"], False, MultiViewTransform([view, view])), given["batch"], shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )
    optimizer = torch.optim.AdamW([*encoder.parameters(), *projector.parameters()], lr=1e-3)
    criterion, pace = NTXentLoss(temperature=0.1), Pace("lightly", "torchvision")
    pace.begin()
    while True:
        for first, second in loader:
            loss = criterion(projector(encoder(first)), projector(encoder(second)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            pace.step()


def stable_pretraining(given: dict[str, Any], encoder: nn.Module, projector: nn.Module) -> None:
    import lightning
    import stable_pretraining as spt
    from stable_pretraining.data import transforms
    from stable_pretraining.forward import simclr

    logging.disable()
    pace = Pace("stable-pretraining", "lightning")

    class Paced(lightning.Callback):
        def on_train_start(self, *_: Any) -> None:
            pace.begin()

        def on_train_batch_end(self, *_: Any, **__: Any) -> None:
            pace.step()

    size = given["size"]
    kernel = max(3, int(0.1 * size) // 2 * 2 + 1)
    view = transforms.Compose(
        transforms.RandomResizedCrop((size, size), scale=(0.2, 1.0)), transforms.RandomHorizontalFlip(p=0.5), transforms.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
        transforms.RandomGrayscale(p=0.2), transforms.GaussianBlur(kernel, (0.1, 2.0), p=0.5), transforms.ToImage(),
    )  # fmt: skip
    images = Images(given["images"], True, transforms.MultiViewTransform([view, view]))
    loader = DataLoader(images, given["batch"], shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)
    module = spt.Module(
        forward=simclr, backbone=encoder, projector=projector, simclr_loss=spt.losses.NTXEntLoss(temperature=0.1),
        optim={"optimizer": {"type": "AdamW", "lr": 1e-3}, "scheduler": {"type": "ConstantLR"}, "interval": "step"},
    )  # fmt: skip
    trainer = lightning.Trainer(max_epochs=10**6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                                enable_model_summary=False, callbacks=[Paced()], num_sanity_val_steps=0, log_every_n_steps=10**6)  # fmt: skip
    trainer.fit(module, loader)


def main() -> None:
    given = settings()
    torch.manual_seed(0)
    encoder = Encoder(given["size"], given["options"])
    projector = MLP([given["options"]["width"], given["options"]["width"], 128], 1, last_norm=True)
    {"lightly": lightly, "stable-pretraining": stable_pretraining}[given["peer"]](given, encoder, projector)


if __name__ == "__main__":
    main()
