"""Tuned profiles of pairs that may not be written to: a file a pair in the user's folder, found by the pair's content.

A pair in a read-only place (an installed app's, a shared drive's) is tuned as well as any other; so is a copy of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import EdgespecError
from .staging import write_atomically

VARIABLE = "EDGESPEC_PROFILES"


def folder(platform: str = sys.platform) -> Path:
    """Where they lie; it may not exist yet.

    EDGESPEC_PROFILES when set; else %LOCALAPPDATA%\\edgespec\\profiles on Windows, ~/Library/Application
    Support/edgespec/profiles on macOS, and elsewhere $XDG_DATA_HOME/edgespec/profiles or
    ~/.local/share/edgespec/profiles. Not the cache: a profile cannot be fetched again, only measured again.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    if platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        home = Path(local) if local else Path.home() / "AppData" / "Local"
    elif platform == "darwin":
        home = Path.home() / "Library" / "Application Support"
    else:
        stated = Path(os.environ.get("XDG_DATA_HOME", ""))
        home = stated if stated.is_absolute() else Path.home() / ".local" / "share"
    return home / "edgespec" / "profiles"


def read(fingerprint: str) -> list[dict[str, Any]]:
    """What was kept for the pair, oldest first; empty when there is nothing that can be read."""
    try:
        found = json.loads(_file(fingerprint).read_bytes())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: there is no home folder
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def write(fingerprint: str, entries: Sequence[dict[str, Any]]) -> Path:
    """Keep `entries` for the pair, in place of what was; the file. Raises OSError, and EdgespecError where there is no
    place for it."""
    try:
        file = _file(fingerprint)
    except RuntimeError as error:
        raise EdgespecError(f"there is no home folder to keep the profile in; set {VARIABLE} to a folder") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(list(entries), indent=2, ensure_ascii=False) + "\n")
    return file


def _file(fingerprint: str) -> Path:
    return folder() / f"{fingerprint[:32]}.json"
