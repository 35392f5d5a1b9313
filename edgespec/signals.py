"""Ctrl-C after a model: OpenVINO leaves the thread that loaded it with a signal stack that may be gone by then."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def keeping_signal_stack() -> Iterator[None]:
    """Around whatever loads a model or a tokenizer that lives on, also as a decorator: the calling thread has the
    signal stack it had before.

    On Linux OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers of its own and, when it
    is unloaded, sets the one it found before, if that of another plugin is not in the way. Two models closed in the
    order they were opened so leave the first one's stack registered after it was unmapped, and the next signal, a
    Ctrl-C, kills the process: Python's handlers run on that stack. Seen with openvino 2026.4.1; tests/test_signals.py
    tells when it is mended. Python's own handlers need no such stack.
    """
    if sys.platform != "linux":
        yield
        return
    before = _Stack()
    libc = ctypes.CDLL(None)
    known = libc.sigaltstack(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            libc.sigaltstack(ctypes.byref(before), None)


class _Stack(ctypes.Structure):
    """stack_t, as sigaltstack(2) has it."""

    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
