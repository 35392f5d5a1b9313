"""sha256 of files: of one that lies there, and of one that is being written."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from . import follower
from .children import NO_WINDOW, frozen


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(follower.BLOCK):
            digest.update(block)
    return digest.hexdigest()


class HashBeside:
    """Hashes a file that does not exist yet while the block writes it, in a process of its own.

    with HashBeside(path) as beside:
        ...  # write path, from its beginning to its end, and close it
        found = beside.result()

    A model of 16 GB is read from memory as it is written, where hashing it afterwards takes it from the disk again
    (10 to 20 s). Only for a writer that never goes back: a byte changed after it was written may be hashed as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> HashBeside:
        self._process: subprocess.Popen[bytes] | None = None
        if not frozen():
            with contextlib.suppress(OSError):  # no process to be had: then it is hashed afterwards
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", follower.__file__, str(self.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    creationflags=NO_WINDOW,
                )
        return self

    def result(self) -> tuple[int, str] | None:
        """Size in bytes and hex sha256 of the file, which is whole now; None where they are not known: no process could
        be started, it ended, or the file was replaced."""
        if self._process is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            answer, _ = self._process.communicate(b"\n")
            size, digest = answer.split()
            return int(size), digest.decode()
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The process has ended, and its hold on the file, when this returns."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError, ValueError):
                process.communicate()
