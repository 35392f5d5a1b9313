"""Where edgespec keeps what it fetched and can fetch again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder(platform: str = sys.platform) -> Path:
    """The user's cache folder for edgespec; it may not exist yet.

    EDGESPEC_CACHE when set; else %LOCALAPPDATA%\\edgespec on Windows, ~/Library/Caches/edgespec on macOS, and elsewhere
    $XDG_CACHE_HOME/edgespec or ~/.cache/edgespec (a relative XDG_CACHE_HOME is ignored, as its specification asks).
    """
    if chosen := os.environ.get("EDGESPEC_CACHE"):
        return Path(chosen).expanduser().absolute()
    if platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "edgespec"
    if platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edgespec"
    stated = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (stated if stated.is_absolute() else Path.home() / ".cache") / "edgespec"
