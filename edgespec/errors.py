"""The whole error taxonomy. A sentence: what was got, what was expected, what to do."""

from __future__ import annotations


class EdgespecError(Exception):
    """A mistake or a limit that the user can act on. The CLI prints it as `error: ...` and exits with 2."""
