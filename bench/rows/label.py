"""``understudy label``, images and texts: samples a second from files to shards, beside the model alone and beside ``transformers.pipeline``.

``label/images-bare`` and ``label/texts-bare``: time over that of the model's forward passes on inputs that are ready, of the same size and in the same batches (texts by length).
``-pipeline``: time over that of the pipeline at its default, batch 1; ``-best``: over that of its best batch. All from the same files with the same weights (untrained: speed does
not depend on them). Reading and decoding count, loading models does not. Time on the clock, all cores.
"""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import Line, line
from understudy import keyed
from understudy.data.source import open_source
from understudy.labels import Packed, Soft
from understudy.teachers import Teacher, label, store_for

BATCHES = (1, 8, 32)
IMAGES = 8
"""In a batch: the bare model of this size is fastest with about so many on a CPU, where what 32 leave behind no longer fits in the cache."""


def measure(part: str, quick: bool) -> Iterator[Line]:
    import transformers

    transformers.logging.set_verbosity_error()
    for name, prepare in (("images", images), ("texts", texts)):
        if part.startswith(name) or not part:
            with tempfile.TemporaryDirectory() as folder:
                ours, bare, pipeline = prepare(Path(folder), quick)
                found: dict[str, list[float]] = {"bare": [], "pipeline": [], "best": []}
                for repeat in range(-1, 1 if quick else 2):
                    time_ours, time_bare = seconds(ours), seconds(bare)
                    theirs = {size: seconds(partial(pipeline, size)) for size in BATCHES}
                    if repeat >= 0:
                        for kind, other in (("bare", time_bare), ("pipeline", theirs[1]), ("best", min(theirs.values()))):
                            found[kind].append(time_ours / other)
            yield line(f"label/{name}-bare", found["bare"], "x the bare forward", 1 / 0.9, "torch", torch.__version__)
            yield line(f"label/{name}-pipeline", found["pipeline"], "x pipeline, batch 1", 1 / 3, "transformers", transformers.__version__)
            yield line(f"label/{name}-best", found["best"], f"x pipeline, best of batches {BATCHES}", 1, "transformers", transformers.__version__)


Sides = tuple[Callable[[], Any], Callable[[], Any], Callable[[int], Any]]


def images(folder: Path, quick: bool) -> Sides:
    """JPEGs of 256 pixels through EfficientNet-Lite0 at 224."""
    import timm
    import transformers
    from PIL import Image

    count = 16 if quick else 48
    (folder / "data").mkdir()
    for i in range(count):
        coarse = keyed.integers(keyed.fold(1, i), 256, (24, 24, 3)).to(torch.uint8).numpy()
        Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC).save(folder / "data" / f"{i}.jpg", quality=90)
    model = timm.create_model("efficientnet_lite0", pretrained=False).eval().to(memory_format=torch.channels_last)
    timm.models.save_for_hf(copy.deepcopy(model).to(memory_format=torch.contiguous_format), folder / "model", safe_serialization=True)
    config = json.loads((folder / "model" / "config.json").read_text())
    config.pop("model_args", None)  # transformers gives the number of classes itself, and would give it twice
    (folder / "model" / "config.json").write_text(json.dumps(config))
    found = open_source(folder / "data", size=224)
    teacher = Teacher.of(f"timm:{folder / 'model'}", modality=found.train.modality)
    ready = torch.rand(IMAGES, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    pipe = transformers.pipeline("image-classification", model=str(folder / "model"), device="cpu")
    paths = [str(path) for path in sorted((folder / "data").glob("*.jpg"))]

    def ours() -> None:
        read = open_source(folder / "data", modality=found.train.modality).train
        shutil.rmtree(folder / "labels", ignore_errors=True)
        label(teacher, read, store_for(folder / "labels", teacher, read, Packed(5)), batch=IMAGES)

    def bare() -> None:
        with torch.no_grad():
            for start in range(0, count, IMAGES):
                model(ready[: min(IMAGES, count - start)])

    return ours, bare, lambda size: list(pipe(paths, batch_size=size))


def texts(folder: Path, quick: bool) -> Sides:
    """Sentences of 5 to 100 words through a BERT of the size of MiniLM-L6."""
    import transformers

    from understudy.data.modalities.text import TextModality

    count = 64 if quick else 256
    words = [f"word{i}" for i in range(800)]
    lengths = (5 * torch.exp(3 * keyed.uniform(2, (count,)))).long().clamp_max(100)
    written = [" ".join(words[int(w)] for w in keyed.integers(keyed.fold(3, i), 800, (int(n),))) for i, n in enumerate(lengths)]
    (folder / "data.csv").write_text("text\n" + "\n".join(written) + "\n", encoding="utf-8")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=TextModality.train(written, vocabulary=4000).tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        unk_token="[UNK]", model_max_length=128,
    )  # fmt: skip
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": len(tokenizer), "num_labels": 4}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**shape)).eval()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    first = open_source(folder / "data.csv").train.modality
    classes = tuple(model.config.id2label.values())
    teacher: Any = Teacher.of(f"hf:{folder / 'model'}", modality=first, classes=classes)
    modality = teacher.model.modality
    pipe = transformers.pipeline("text-classification", model=str(folder / "model"), device="cpu", truncation=True)
    encoded = modality.collate([modality.encode(text) for text in written])
    order = encoded["length"].argsort(descending=True)
    batches = [encoded["tokens"][rows][:, : int(encoded["length"][rows].max())] for rows in order.split(32)]
    masks = [torch.arange(b.shape[1]) < encoded["length"][rows, None] for b, rows in zip(batches, order.split(32), strict=True)]

    def ours() -> None:
        read = open_source(folder / "data.csv", modality=modality, classes=classes).train
        shutil.rmtree(folder / "labels", ignore_errors=True)
        label(teacher, read, store_for(folder / "labels", teacher, read, Soft()), batch=32)

    def bare() -> None:
        with torch.no_grad():
            for tokens, mask in zip(batches, masks, strict=True):
                model(input_ids=tokens, attention_mask=mask.long())

    return ours, bare, lambda size: list(pipe(written, batch_size=size))


def seconds(what: Callable[[], Any]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start
