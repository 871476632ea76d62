"""One tiny task for every registered system. Run as a script it trains one system into a folder, on as many processes as torchrun says."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from understudy import keyed, models, systems
from understudy.data.modalities.audio import AudioModality
from understudy.data.modalities.detection import DetectionModality
from understudy.data.modalities.generation import Exchange, GenerationModality
from understudy.data.modalities.graph import Graph, GraphModality, Neighbourhoods
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.image_text import ImageTextModality
from understudy.data.modalities.molecule import MoleculeModality
from understudy.data.modalities.points import PointsModality
from understudy.data.modalities.segmentation import SegmentationModality
from understudy.data.modalities.series import SeriesModality
from understudy.data.modalities.table import TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.modalities.text_pair import Pair, TextPairModality
from understudy.data.problems import samples_of
from understudy.data.samples import InMemory, Samples
from understudy.engine.run import Run
from understudy.settings import RunSettings
from understudy.systems.base import Objective, Outcome, System, Task
from understudy.teachers.kinds import Frozen
from understudy.teachers.rewards import Checked

CLASSES = ("first", "second", "third")
N = 24

# What a system needs before each of its settings can matter: three steps of three classes reach few thresholds by themselves.
REVEALING: dict[str, dict[str, Any]] = {
    "chemberta-2": {"objective": "mlm", "ratio": 0.5},
    "m3s": {"grow": 2, "clusters": 4, "stages": 2, "train.steps": 9},
    "predictions-pretraining": {"train.steps": 12},
    "deepercluster": {"train.steps": 12, "rounds": 2, "clusters": 4},
    "cae-dfkd": {"width": 8, "memory": 8},
    "tesla-dd-images": {"experts": 2, "epochs": 3, "expert_batch": 4, "soft": True, "start": 2, "inner": 3, "inner_batch": 2},
    "fedlabel": {"rounds": 2, "clients": 2},
    "fedlabel-client": {"threshold": 0.36},
    "hast": {"rounds": 2, "ask": 2, "threshold": 0.41, "neighbours": 1, "pseudo_share": 0.2},
    "pop": {"warm_up": 0.0, "margin": 0.3, "fall": 0.28, "least": 0.015, "train.steps": 18},
    "dinov2": {"centring": "centre"},
    "boss-sd": {"trials": 5, "first": 2, "best": 2, "train.steps": 15},
    "unfused": {"train.steps": 12, "clusters": 4},
    "poa": {"depth": 1, "prototypes": (32, 48), "hidden": 32, "bottleneck": 16, "locals": 2},
    "lgvit": {"heads": "convolution"},
    "lgvit-exits": {"heads": "convolution"},
    # Standardised over eight images that an untrained transformer hardly tells apart, rounding grows with every step.
    "barlow-twins": {"optim.lr": 1e-4},
    # Likewise: what an untrained transformer's tokens are apart from their mean is small, and scaled to length 1.
    "scalekd": {"optim.lr": 1e-4},
    "simclrv2": {"train.steps": 12},
    "fixmatch": {"threshold": 0.34},
    "fst": {"threshold": 0.345, "momentum": 0.5, "train.steps": 6},
    # At the start every class has a probability of 0.01.
    "soft-teacher": {"threshold": 0.012, "candidates": 0.013, "variance": 0.4, "jitter": 0.5},
    "cosine": {"threshold": 0.0, "refresh": 1},
    "mlm": {"ratio": 0.5},
    "rmt": {"warm_up": 15},
    "cotta": {"threshold": 0.4, "augmentations": 2},
    "rest-em": {"rounds": 2, "samples": 12, "most": 2, "temperature": 1.0, "top_k": 8},
    "spin": {"rounds": 2, "memory": 1},
    "scpo": {"rounds": 2, "threshold": 0.3, "later": 0.3, "temperature": 0.2, "longest": 2},
    "b-star": {"rounds": 2, "samples": 4, "temperatures": (0.1, 1.0), "thresholds": (-0.5, 0.5), "trial": 2, "enough": 1, "longest": 2},
    "self-train-collapse": {"rounds": 2},
    "gkd": {"on_policy": 0.5},
    "alm": {"temperature": 1.0},
    "llm-qat": {"texts": 12, "weights": 8, "activations": 8, "cache": 8, "optim.lr": 1e-4},
    "ferkd": {"top": 1, "low": 0.335, "middle": 0.4, "high": 0.68},
    "random-teachers": {"prototypes": 64, "hidden": 32, "bottleneck": 16},
    "self-kd-ambiguity": {"threshold": 0.998, "recalibration": 1.0},
    "w-mse": {"width": 2, "hidden": 16, "train.batch": 16},
    "look": {"queue": 8, "neighbours": 2, "width": 8, "hidden": 16, "train.steps": 4},
    "obow": {"words": 32, "hidden": 16, "patches": 1},
    "kd-data-pruning": {"fraction": 0.6},
    "trans-encoder": {"train.steps": 10, "cycles": 1},
    "se-mixup": {"train.steps": 12},
    "clip": {"most": 10.0},
    "owttt": {"scores": 4, "prototypes": 1, "memory": 8},
    "vida": {"threshold": 0.0, "augmentations": 2},
    "tesla-tta": {"views": 2, "queue": 1},
    "smpl": {"threshold": 0.34, "ramp": 1.0, "clip": 0.01},
}
# Settings that decide when something happens in a longer run than this, or only with a teacher that is not given here.
LATER: dict[str, set[str]] = {
    # One cluster or candidate more need not change what is accepted of a dozen nodes; tested with the system.
    "m3s": {"clusters", "grow"},
    "dinov2": {"frozen_last"},
    "cosine": {"rules"},
    # Only in a model of more than two blocks.
    "unfused-clusters": {"exits"},
    "tent": {"adapts"},
    "noisy-student": {"threshold"},
    "nkd-uskd": {"gamma", "temperature"},
    # Only where no validation set is given.
    "sd-ground-truth-weighting": {"validation"},
    "boss-sd": {"validation"},
    # Needs vLLM.
    **{slug: {"engine"} for slug in ("rest-em", "spin", "scpo", "self-train-collapse")},
    "b-star": {"engine", "thresholds", "trial", "enough"},
    # The teacher has no batch normalisation.
    "cae-dfkd": {"statistics"},
    # Only in the figures on validation data.
    "lgvit": {"confidence"},
    # Only in the pictures beside the model.
    "flow-matching": {"steps"},
    "repa": {"steps"},
}
# Other values of settings that are free text.
OTHERS: dict[str, dict[str, Any]] = {
    "multiview-mae": {"pixels": 8},
    "fedlabel-client": {"expert": "global"},
    "hast": {"neighbours": 7},
    "crowd-soft-aggregation": {"ways": ("softmax",)},
    "lgvit": {"exits": (0,)},
    "lgvit-exits": {"exits": (0,)},
    "simclrv2": {"smaller": "tiny-resnet"},
    "unfused": {"smaller": "tiny-audio"},
    "distilhubert": {"taught": (2,), "layers": 1},
    "scalekd": {"inner": "backbone.blocks.0"},
    "lsa": {"texts": 6},
    "cae-dfkd": {"words": "tiny-text"},
}
# Systems that need another model than the usual one of their data, and those that read texts in pairs.
MODELS = {"flow-matching": "tiny-dit", "repa": "tiny-dit", "boot": "tiny-dit", "tesla-dd": "tiny-convnet", "tesla-dd-images": "tiny-convnet"}
READS = {"trans-encoder": "pair", "trans-encoder-student": "pair"}


def samples(modality: str) -> Samples:
    """Twelve labelled and twelve unlabelled samples of three classes."""
    truth = torch.arange(N) % 3
    ids = tuple(f"sample-{i}" for i in range(N))
    if modality == "image":
        noise = keyed.integers(keyed.fold(5, torch.arange(N)), 100, (1, 16, 16))
        noise[truth == 1, :, ::2] += 100
        noise[truth == 2, :, ::2, ::2] += 150
        kind: Any = ImageModality(size=16, channels=1)
        encoded = InMemory({"image": noise.to(torch.uint8)})
    elif modality == "text":
        words = [["red", "green", "blue"], ["cat", "dog", "cow"], ["one", "two", "three"]]
        texts = [" ".join(words[y][int(w)] for w in keyed.integers(keyed.fold(3, i), 3, (8,))) for i, y in enumerate(truth.tolist())]
        kind = TextModality.train(texts, vocabulary=300, length=16)
        encoded = InMemory(kind.collate([kind.encode(t) for t in texts]), texts)
    elif modality == "image-text":
        said = [f"{['dark', 'grey', 'light'][y]} picture" for y in truth.tolist()]
        kind = ImageTextModality(16, 1, TextModality.train(said, vocabulary=300, length=8))
        encoded = InMemory({**samples("image").encoded.everything, **kind.text.collate([kind.text.encode(text) for text in said])}, said)  # type: ignore[attr-defined]
    elif modality == "pair":
        texts = samples("text").encoded
        said = [Pair(texts.original(i), texts.original(3 * i % N)) for i in range(N)]
        kind = TextPairModality(samples("text").modality.tokenizer, 16)  # type: ignore[attr-defined]
        encoded = InMemory(kind.collate([kind.encode(pair) for pair in said]), said)
    elif modality == "segmentation":
        noise = keyed.integers(keyed.fold(5, torch.arange(N)), 100, (1, 16, 16)).to(torch.uint8)
        mask = torch.zeros(N, 16, 16, dtype=torch.uint8)
        mask[:, 4:12, 4:12] = truth[:, None, None].to(torch.uint8)
        noise[:, 0] += 50 * mask
        mask[N // 2 :] = 255
        kind, encoded = SegmentationModality(size=16, channels=1), InMemory({"image": noise, "mask": mask})
        truth = torch.zeros_like(truth)
    elif modality == "detection":
        noise = keyed.integers(keyed.fold(5, torch.arange(N)), 100, (1, 16, 16)).to(torch.uint8)
        noise[:, 0, 4:12, 4:12] += 50 * truth[:, None, None].to(torch.uint8)
        boxes = torch.tensor([-0.5, -0.5, 0.5, 0.5]).repeat(N, 1)
        drawn = torch.where(torch.arange(N) < N // 2, truth, -1)
        kind, encoded = DetectionModality(size=16, channels=1), InMemory({"image": noise, "boxes": torch.cat([boxes, drawn[:, None]], 1).unsqueeze(1)})
        truth = torch.zeros_like(truth)
    elif modality == "graph":
        kind = GraphModality(codes=8, fans=(3, 3))
        features = kind.features({}, ids) + 2.0 * torch.nn.functional.one_hot(truth, 8)
        edges = torch.stack([torch.arange(N), (torch.arange(N) + 3 + torch.arange(N) % 2) % N], 1)
        encoded = Neighbourhoods(Graph.of(features, edges, keyed.of_texts(ids), 3), torch.arange(N), kind.fans)
    elif modality == "points":
        kind = PointsModality(count=64)
        noise = keyed.normal(keyed.fold(3, torch.arange(N)), (64, 3)) * torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.1, 1.0], [0.1, 1.0, 0.1]])[truth][:, None]
        encoded = InMemory({"points": noise / noise.norm(dim=2).amax(1)[:, None, None]})
    elif modality == "molecule":
        smiles = [core + "C" * (1 + i // 3) for i, core in zip(range(N), ["OC(=O)", "c1ccccc1", "NC(Cl)"] * N, strict=False)]
        kind = MoleculeModality.train(smiles, length=32)
        encoded = InMemory(kind.collate([kind.encode(one) for one in smiles]), smiles)
    elif modality == "generation":
        kind = GenerationModality.characters(["0123456789>"], length=8)
        said = [Exchange(f"{i % 10}{i // 10}>", str(i // 10) if i < N // 2 else None, str(i % 7)) for i in range(N)]
        return samples_of(said, kind, ids)
    elif modality == "series":
        kind = SeriesModality(("up", "down"), length=24)
        wave = torch.sin(torch.arange(24) * (0.3 + 0.3 * truth[:, None])).unsqueeze(1) + 0.3 * keyed.normal(keyed.fold(13, torch.arange(N)), (2, 24))
        encoded = InMemory({"series": wave, "steps": torch.full((N,), 24) - truth})
    elif modality == "audio":
        kind = AudioModality(8000, length=24, mels=8)
        frames = keyed.normal(keyed.fold(11, torch.arange(N)), (8, 24)) + 2 * (torch.arange(8)[:, None] // 3 == truth[:, None, None])
        encoded = InMemory({"frames": frames.half(), "steps": torch.full((N,), 24) - truth})
    else:
        columns: dict[str, Any] = {f"x{i}": (keyed.normal(keyed.fold(9, i), (N,)) + truth * (i == 0)).numpy() for i in range(4)}
        columns["c"] = [f"kind {(y + i // 7) % 3}" for i, y in enumerate(truth.tolist())]
        kind = TableModality.fit(columns)
        encoded = InMemory(kind.encode_columns(columns))
    labels = torch.where(torch.arange(N) < N // 2, truth, -1)
    return Samples(kind, encoded, ids, labels, CLASSES)


def task(slug: str, folder: Path, common: Mapping[str, Any] | None = None, batch: int = 8) -> Task:
    """A task that the system can work on."""
    kind = systems.get(slug)
    modality = READS.get(slug, kind.card.modalities[0])
    data = samples(modality)
    # No BatchNorm, whose statistics differ between parts of a batch: a transformer shows what the objective itself does.
    name = (
        MODELS.get(slug)
        or {
            "pair": "tiny-text",
            "image-text": "tiny-clip",
            "image": "tiny-vit",
            "text": "tiny-text",
            "table": "tiny-table",
            "generation": "tiny-lm",
            "series": "tiny-series",
            "audio": "tiny-ast",
            "molecule": "tiny-molecule",
            "graph": "tiny-gcn",
            "segmentation": "tiny-unet",
            "detection": "tiny-boxnet",
            "points": "tiny-points",
        }[modality]
    )
    student = models.build(name, data.modality, CLASSES, key=1, **({"norm": False} if modality == "detection" else {}))
    teacher = Frozen(models.build(name, data.modality, CLASSES, key=2)) if "teacher" in kind.card.needs else None
    revealed = {k: v for k, v in REVEALING.get(slug, {}).items() if "." in k}
    own = {
        **kind.defaults,
        "train.steps": 3,
        "train.batch": batch,
        "device": "cpu",
        "optim.warmup": 0.0,
        "checkpoint.every": 1,
        "watch.action": "off",
        **revealed,
        **(common or {}),
    }
    return Task(
        data,
        student,
        RunSettings().changed(own),
        Run(folder),
        validation=data.labelled,
        teacher=teacher,
        also={"source": data.labelled, "pseudo": data.labelled},
        reward=Checked(lambda prompt, answer: answer[:1] in "13579"),
    )


def built(slug: str, folder: Path, settings: Mapping[str, Any] | None = None, common: Mapping[str, Any] | None = None, batch: int = 8) -> System:
    kind = systems.get(slug)
    revealed = {k: v for k, v in REVEALING.get(slug, {}).items() if "." not in k}
    return kind(kind.Settings().changed({**revealed, **(settings or {})}), task(slug, folder, common, batch))


def run(slug: str, folder: Path, settings: Mapping[str, Any] | None = None, common: Mapping[str, Any] | None = None, batch: int = 8) -> Outcome:
    return built(slug, folder, settings, common, batch).run()


def objectives() -> list[str]:
    return [slug for slug in systems.names() if issubclass(systems.get(slug), Objective)]


def trace(folder: Path) -> list[float]:
    """The losses of a run, step by step, stages in the order of their names."""
    files = sorted(folder.rglob("metrics.jsonl"))
    return [line["loss"] for file in files for line in Run(file.parent).metrics() if "loss" in line]


if __name__ == "__main__":
    # Both processes of a pair train every objective, one after another: starting Python costs more than all of the training.
    import traceback

    where, parallel = Path(sys.argv[1]), sys.argv[2]
    for each in objectives():
        if parallel == "fsdp" and not systems.get(each).shards:  # type: ignore[attr-defined]
            continue
        try:
            run(each, where / each, common={"watch.every": 1, "train.parallel": parallel})
        except Exception:
            with open(where / f"{each}.error", "a") as file:  # the process that failed first is the one that knows why
                file.write(traceback.format_exc())
            raise
