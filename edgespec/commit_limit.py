"""What Windows may still promise to programs: it counts memory when a program asks for it, not when it is used.

Linux and macOS hand out more than they have and swap later. Windows keeps a commit limit, of memory and page file
together, and refuses whatever would pass it, though memory may be free. A file that is mapped to be read costs nothing
there either; one that is mapped copy-on-write costs its whole size, because each of its pages may become the program's
own. torch maps safetensors files so, every file of a checkpoint at once (huggingface/transformers issue 48285).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass


@dataclass(frozen=True)
class Commit:
    """Bytes that this process may still commit, and the limit of the system, or of this process if that is lower."""

    free_bytes: int
    limit_bytes: int


class _Status(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API (sysinfoapi.h); TotalPageFile and AvailPageFile are of the commit limit, not of
    the page file alone."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("available_physical", ctypes.c_uint64),
        ("total_commit", ctypes.c_uint64),
        ("available_commit", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended", ctypes.c_uint64),
    )


def commit_now() -> Commit | None:
    """None where the system keeps no such limit (all but Windows), or does not tell."""
    windows = getattr(ctypes, "windll", None)
    if windows is None:
        return None
    status = _Status(length=ctypes.sizeof(_Status))
    if not windows.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return Commit(free_bytes=int(status.available_commit), limit_bytes=int(status.total_commit))
