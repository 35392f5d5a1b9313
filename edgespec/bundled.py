"""The pair that ships inside the package: checkpoints of a small code-completion target and its draft."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .errors import EdgespecError


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
