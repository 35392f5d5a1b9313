"""The whole error taxonomy. A sentence: what was got, what was expected, what to do. The kinds below `EdgespecError`
are for the runtime, which may then do otherwise; to a user they are that one error."""

from __future__ import annotations


class EdgespecError(Exception):
    """A mistake or a limit that the user can act on. The CLI prints it as `error: ...` and exits with 2."""


class EngineFailed(EdgespecError):
    """A loaded engine broke down in the middle of its work: its device is gone, or its driver gave up. Another engine,
    or another device, may still do what was asked."""


class MemoryShortage(EdgespecError):
    """What was to be loaded does not fit in the memory that is free now; later it may."""


class Stopped(EdgespecError):
    """The user asked for it to stop, and it did, with what was done so far kept: no mistake, and not done either. The
    CLI prints the sentence, which says how to go on, and exits with 130 as after any Ctrl-C."""


def last_line(error: Exception) -> str:
    """OpenVINO puts what happened last, below where it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
