"""Which files were already compared with their sha256, so that a pair is hashed once and not at every start.

A record says: this path, with this size and time of change, had this hash. A file of another size or time is hashed
again. It saves time and is no defence: whoever can write the file can also set its time (`Pair.open(verify=True)`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .cache import cache_folder
from .staging import write_atomically

FOLDER = "verified"
_SETTLED_NS = 2_000_000_000
"""A file changed less than this ago may change again without a new time (FAT counts in 2 s), so it is not recorded."""
_MOST = 500
"""Pairs remembered; of more, those hashed longest ago are forgotten."""


class Verified:
    """The record of one pair directory. Reading and writing never fail: without a record, files are hashed."""

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        """folder: where records are kept; None for the user's cache folder."""
        root = root.resolve()
        self._path = (folder or cache_folder() / FOLDER) / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.json"
        self._known = self._read()
        self._found: dict[str, list[Any]] = {}

    def holds(self, path: Path, sha256: str) -> bool:
        """Whether `path`, as it lies there now, was found to have `sha256` before."""
        return self._known.get(str(path.resolve())) == [*state(path), sha256]

    def note(self, path: Path, sha256: str, before: tuple[int, int]) -> None:
        """`path` was just found to have `sha256`. before: its `state` when the reading began."""
        size, changed_ns = state(path)
        if (size, changed_ns) == before and time.time_ns() - changed_ns > _SETTLED_NS:
            self._found[str(path.resolve())] = [size, changed_ns, sha256]

    def keep(self) -> None:
        """Write down what was noted."""
        if not self._found:
            return
        with suppress(OSError):  # a cache folder that cannot be written: hash again next time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(self._known | self._found))
            records = sorted(self._path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for old in records[:-_MOST]:
                old.unlink()

    def _read(self) -> dict[str, list[Any]]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def state(path: Path) -> tuple[int, int]:
    """Size and time of change, in ns."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns
