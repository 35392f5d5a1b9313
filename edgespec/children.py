"""How this program starts another Python process, from a terminal, a window or a frozen app."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""creationflags of subprocess: a child of a desktop app must not flash up a console on Windows; 0 elsewhere."""
FORKED = "--multiprocessing-fork"
"""What multiprocessing hands a frozen app's child; freeze_support() takes it off the command line."""


def frozen() -> bool:
    """Whether sys.executable is the app itself (PyInstaller, Nuitka, an embedded interpreter) and so knows no -c."""
    name = Path(sys.executable or "").stem.lower()
    return bool(getattr(sys, "frozen", False)) or not name.startswith("python")


def unsupported_child() -> bool:
    """Whether this process is the child of a frozen app that went on as if it were the app, because it never called
    multiprocessing.freeze_support(). It must not start children in turn: there would be no end of them."""
    return FORKED in sys.argv[1:]
