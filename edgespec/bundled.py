"""The pair that ships inside the package: checkpoints of a small code-completion target and its draft."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

from .errors import EdgespecError

BUNDLED = "bundled"
"""What the pair's models are called where a checkpoint is asked for; a folder of that name is `./bundled`."""


def checkpoint_named(name: str, role: Literal["target", "draft"]) -> str:
    """The checkpoint that a user names: the bundled pair's model of that role, or a folder or hub id as it is."""
    if name != BUNDLED:
        return name
    target, draft = bundled_checkpoints()
    return str(target if role == "target" else draft)


def bundled_checkpoints() -> tuple[Path, Path]:
    """Directories of the bundled target and draft, as Hugging Face reads them."""
    root = Path(str(files("edgespec"))) / "bundled"
    target, draft = root / "target", root / "draft"
    for folder in (target, draft):
        if not (folder / "model.safetensors").is_file():
            raise EdgespecError(
                f"the bundled model '{folder}' is missing from this installation; install edgespec again"
            )
    return target, draft
