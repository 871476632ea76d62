"""Labelling on a Ray cluster: the same labels, each part made by whichever node is free."""

from __future__ import annotations

import logging
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.data.samples import Samples
from understudy.errors import MissingExtra, UserError
from understudy.labels import LabelStore
from understudy.teachers.base import Teacher
from understudy.teachers.labelling import label, missing

_PARTS = 8
"""Parts for each worker, at least: so many that the last ones end together."""


def label_on_ray(
    teacher: Teacher,
    samples: Samples,
    store: LabelStore,
    *,
    views: int = 1,
    batch: int = 64,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> int:
    """As ``label``, by Ray Data on the cluster that RAY_ADDRESS names (else on this machine); returns how many labels were added.

    Every worker takes one GPU where ``device`` allows and the cluster has some, otherwise one core. Samples and teacher are sent to each node once. A part is one
    shard at most: when a node dies, the parts that it had not written are given to others. All nodes must see the store's folder, and the files of samples
    that are not held in memory, under the same paths. Raises MissingExtra without Ray, UserError where a node does not see the store.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtra("ray", "labelling on a cluster") from None
    store.require(teacher=teacher.fingerprint)
    open_at = missing(samples, store, views)
    if progress is not None:
        progress((len(samples) - len(open_at)) * views)
    if not len(open_at):
        return 0
    joined = ray.is_initialized()
    if not joined:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ warns of what we do on purpose
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"no Ray cluster answers at RAY_ADDRESS={os.environ.get('RAY_ADDRESS')}: {str(error).splitlines()[0]}") from None
    try:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        kind, workers = _workers(ray.cluster_resources(), device)
        size = max(1, min(store.shard_rows // views, math.ceil(len(open_at) / (_PARTS * workers))))
        parts = ray.data.from_numpy(np.array_split(open_at.numpy(), math.ceil(len(open_at) / size))).map_batches(
            _Worker,
            fn_constructor_args=(ray.put(teacher), ray.put(samples), str(store.folder.absolute()), views, batch, kind),
            batch_size=None,  # a block is a part
            concurrency=(1, workers),
            num_gpus=1 if kind == "cuda" else None,
            num_cpus=None if kind == "cuda" else 1,
        )
        added = 0
        try:
            for row in parts.iter_rows():
                added += int(row["added"])
                if progress is not None:
                    progress(int(row["samples"]) * views)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        return added
    finally:
        if not joined:
            ray.shutdown()


class _Worker:
    """One of those that share the work. What it was given stays on its node."""

    def __init__(self, teacher: Any, samples: Any, folder: str, views: int, batch: int, device: str):
        import ray

        self.teacher, self.samples = ray.get([teacher, samples])
        self.folder, self.views, self.batch, self.device = Path(folder), views, batch, device
        self.teacher.to(device)
        if not (self.folder / "manifest.json").exists():
            raise UserError(f"the node {platform.node()} (process {os.getpid()}) does not see {folder}: write labels to storage that all nodes share")

    def __call__(self, part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        chosen = self.samples.take(torch.from_numpy(part["data"].copy()))
        # What was missing is known; a part that is done twice, because a node died between its shard and its answer, writes the same labels again.
        added = label(self.teacher, chosen, LabelStore.open(self.folder), views=self.views, batch=self.batch, device=self.device, resume=False)
        return {"added": np.array([added]), "samples": np.array([len(chosen)])}


def _workers(cluster: dict[str, float], device: str) -> tuple[str, int]:
    """What a worker runs on, and how many there can be."""
    gpus = int(cluster.get("GPU", 0))
    if device.startswith("cuda") and not gpus:
        raise UserError("device cuda was asked for but no node of the Ray cluster has a GPU; use --set device=cpu")
    return ("cuda", gpus) if gpus and device != "cpu" else ("cpu", max(1, int(cluster.get("CPU", 1))))
