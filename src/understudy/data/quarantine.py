"""Samples that can not be read: set aside with their reason, counted, and too many of them stop the run."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from understudy.errors import UserError

ALWAYS_ALLOWED = 10
"""So many unreadable samples never stop a run: one broken file in fifty is no reason to train on nothing."""


class Quarantine:
    """What was set aside, in memory and, line by line, in ``folder/quarantine.jsonl``.

    ``limit`` is the fraction of all samples past which ``check`` stops the run. Opening the same data again (a resumed run) writes no line twice.
    """

    def __init__(self, folder: str | Path | None = None, limit: float = 0.01):
        self.file = None if folder is None else Path(folder) / "quarantine.jsonl"
        self.limit = limit
        self.rows: list[tuple[str, str]] = []
        self._written = set(self.file.read_text("utf-8").splitlines()) if self.file is not None and self.file.exists() else set()
        self._lock = threading.Lock()

    def add(self, path: str | Path, reason: str) -> None:
        """Set ``path`` (a file, or a file and a row) aside. Raises UserError where the list can not be written."""
        with self._lock:
            self.rows.append((str(path), reason))
            line = json.dumps({"path": str(path), "reason": reason})
            if self.file is None or line in self._written:
                return
            self._written.add(line)
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                with self.file.open("a", encoding="utf-8") as out:
                    out.write(line + "\n")
            except OSError as error:
                raise UserError(f"can not write {self.file}: {error.strerror}") from error

    def check(self, total: int) -> None:
        """Raise UserError when more than ``limit`` of ``total`` samples, and more than ``ALWAYS_ALLOWED``, were set aside."""
        if len(self.rows) <= max(ALWAYS_ALLOWED, self.limit * total):
            return
        listed = "" if self.file is None else f"; all are listed in {self.file}"
        path, reason = self.rows[0]
        raise UserError(
            f"{len(self.rows):,} of {total:,} samples can not be read, more than the {self.limit:.1%} allowed (the first: {path}: {reason}){listed}: "
            "mend or remove them, or allow more with --set data.unreadable=0.1"
        )
