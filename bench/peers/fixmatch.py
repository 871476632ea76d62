"""FixMatch of semilearn (USB) in its own training loop, with the network, the data and the batch that it is given.

USB trains on CUDA alone: its batches stay where they are here, and its CUDA timers are left out. Its audio and experiment-tracking imports are not needed.
"""

from __future__ import annotations

import sys
import types
from argparse import Namespace
from importlib.machinery import ModuleSpec
from typing import Any

for name in ("torchaudio", "aim"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = ModuleSpec(name, None)  # others look whether they are installed, and find no distribution
sys.modules["aim"].Run = object  # type: ignore[attr-defined]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from semilearn.algorithms.fixmatch.fixmatch import FixMatch  # noqa: E402
from semilearn.algorithms.hooks import FixedThresholdingHook, PseudoLabelingHook  # noqa: E402
from semilearn.core.hooks import EMAHook, Hook, ParamUpdateHook  # noqa: E402
from semilearn.datasets.augmentation import RandAugment  # noqa: E402
from semilearn.datasets.cv_datasets.datasetbase import BasicDataset  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision import transforms  # noqa: E402

from bench.peers.serving import Pace, settings  # noqa: E402
from understudy import models  # noqa: E402
from understudy.data.modalities.image import ImageModality  # noqa: E402


class Net(nn.Module):
    """The network of the other side, in the form that USB expects."""

    def __init__(self, num_classes: int, **_: Any):
        super().__init__()
        self.student = models.build("small-resnet", ImageModality(size=32), tuple(map(str, range(num_classes))), key=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.student.features({"pixels": x})
        return {"logits": self.student.logits(features), "feat": features.pooled}


class Paced(Hook):
    """The last hook of every step."""

    def __init__(self, pace: Pace):
        super().__init__()
        self.pace = pace

    def before_run(self, algorithm: Any) -> None:
        self.pace.begin()

    def after_train_step(self, algorithm: Any) -> None:
        self.pace.step()


class OnCPU(FixMatch):
    """USB's FixMatch over given images."""

    def set_dataset(self) -> dict[str, Any]:
        images = np.load(self.args.images).transpose(0, 2, 3, 1)
        labels = np.arange(len(images)) % 10
        weak = [transforms.Resize(32), transforms.RandomCrop(32, padding=4, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
        plain, strong = transforms.Compose([*weak, transforms.ToTensor()]), transforms.Compose([*weak, RandAugment(3, 5), transforms.ToTensor()])
        half = len(images) // 2
        labelled = BasicDataset("fixmatch", images[:half], labels[:half], 10, plain, False, strong, False)
        unlabelled = BasicDataset("fixmatch", images[half:], labels[half:], 10, plain, True, strong, False)
        return {"train_lb": labelled, "train_ulb": unlabelled, "eval": labelled, "test": None}

    def process_batch(self, input_args: Any = None, **kwargs: Any) -> dict[str, Any]:
        return {name: value for name, value in kwargs.items() if name in ("x_lb", "y_lb", "x_ulb_w", "x_ulb_s")}

    def set_hooks(self) -> None:
        self.register_hook(PseudoLabelingHook(), "PseudoLabelingHook")
        self.register_hook(FixedThresholdingHook(), "MaskingHook")
        self.register_hook(ParamUpdateHook(), None, "HIGHEST")
        self.register_hook(EMAHook(), None, "HIGH")
        self.register_hook(Paced(self.args.pace), None, "LOWEST")


def main() -> None:
    given = settings()
    torch.manual_seed(0)
    arguments = Namespace(
        num_classes=10, ema_m=0.999, epoch=1, num_train_iter=100_000, num_eval_iter=10**9, num_log_iter=10**9, ulb_loss_ratio=1.0, use_cat=True, amp=False,
        clip_grad=0, save_name="", save_dir="", resume=False, algorithm="fixmatch", gpu=None, rank=0, distributed=False, world_size=1, dataset="given", net="given",
        batch_size=given["batch"], uratio=3, eval_batch_size=64, train_sampler="RandomSampler", num_workers=1, optim="SGD", lr=0.03, momentum=0.9,
        weight_decay=5e-4, layer_decay=1.0, num_warmup_iter=0, use_pretrain=False, pretrain_path="", use_wandb=False, use_aim=False, T=0.5, p_cutoff=0.95,
        hard_label=True, images=given["images"], pace=Pace("semilearn", "torchvision"),
    )  # fmt: skip
    OnCPU(arguments, Net).train()


if __name__ == "__main__":
    main()
