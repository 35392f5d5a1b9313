"""What PyInstaller has to know to freeze an app that embeds edgespec; it finds this through the entry point
`pyinstaller40` and asks nothing of the app's own spec."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Where hook-edgespec.py lies."""
    return [str(Path(__file__).parent)]
