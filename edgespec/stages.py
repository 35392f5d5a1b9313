"""The one door from the command line to a stage: loaded when its verb is typed, with a sentence when it cannot be."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType

from .errors import EdgespecError


def load_stage(name: str) -> ModuleType:
    """The stage `edgespec.<name>`. Raises EdgespecError naming the extra to install when a package is missing."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return import_module(f"edgespec.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgespec"):
            raise
        raise EdgespecError(
            f"'edgespec {name}' needs the package '{error.name}', which is not installed; "
            'install it with: pip install "edgespec[all]"'
        ) from error
