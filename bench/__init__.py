"""Measurements of speed and size, side by side with peers: ``python -m bench ROW [--quick]``. See README.md."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

RESULTS = Path(__file__).with_name("results.csv")


@dataclass(frozen=True)
class Line:
    """One line of results.csv."""

    row: str
    value: float
    unit: str
    target: str
    met: str
    peer: str
    peer_version: str
    low: float
    high: float
    machine: str
    commit: str
    date: str


def line(
    row: str, values: Sequence[float], unit: str, most: float | None = None, peer: str = "", peer_version: str = "", *, least: float | None = None
) -> Line:
    """The median of ``values`` with their quartiles, which must not exceed ``most``, or must reach ``least``; without either it is only recorded."""
    low, _, high = quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    value = median(values)
    shown = (round(x, 4) for x in (value, low, high))
    value, low, high = shown
    target = f"<= {most:g}" if most is not None else f">= {least:g}" if least is not None else ""
    met = "" if not target else "yes" if (value <= most if most is not None else value >= least) else "no"  # type: ignore[operator]
    return Line(row, value, unit, target, met, peer, peer_version, low, high, machine(), commit(), datetime.now(UTC).date().isoformat())


def keep(found: Line) -> None:
    """Append a line to results.csv."""
    new = not RESULTS.exists()
    with open(RESULTS, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Line)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(found))


def machine() -> str:
    """Processor, cores, load: a busy machine is slower in ways that not even processor time hides."""
    info = Path("/proc/cpuinfo")
    names = [row.partition(":")[2].strip() for row in info.read_text().splitlines() if row.startswith("model name")] if info.exists() else []
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"


def commit() -> str:
    """The commit of this checkout, marked dirty where the package differs from it."""
    git = ["git", "-C", str(RESULTS.parent)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "../src"], capture_output=True, text=True)
    return found.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
