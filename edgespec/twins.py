"""Twins, known as such wherever they show: models of a real shape with random weights and a set acceptance.

Their figures hold for the shape, never for the model it is named after. `edgespec.plan` makes them and puts KEY into
config.json, which export and quantize carry along.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .pair import Pair, Source, write_manifest

KEY = "edgespec_twin"
"""In config.json: shape, role, alpha, seed, margin."""


def read_twin(folder: Path) -> dict[str, Any] | None:
    """What the config.json in `folder` says about being a twin; None when it is none."""
    try:
        found = json.loads((folder / "config.json").read_bytes()).get(KEY)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def twin_label(pair: Pair) -> str | None:
    """Such as `twin:llama-3.2-1b + twin:4x384 alpha=0.80`, for reports; None when neither model is a twin."""
    target = read_twin(pair.target)
    draft = read_twin(pair.draft) if pair.draft else None
    if target is None and draft is None:
        return None
    if pair.draft is None:
        return _name(target)
    alpha = f" alpha={alpha_words(draft)}" if draft else ""
    return f"{_name(target)} + {_name(draft)}{alpha}"


def alpha_words(twin: dict[str, Any]) -> str:
    """The alpha a twin was made for, such as 0.80, or the range where it has several (edgespec.plan's zones)."""
    alpha = twin["alpha"]
    return f"{min(alpha):.2f} to {max(alpha):.2f}" if isinstance(alpha, list) else f"{alpha:.2f}"


def _name(twin: dict[str, Any] | None) -> str:
    return f"twin:{twin['shape']}" if twin else "a model"


def label_sources(pair: Pair) -> Pair:
    """Write into the pair's manifest what its twins are (`twin:llama-3.2-1b alpha=0.80`) instead of where the files
    came from, which was a temporary directory; models that are none keep theirs."""
    update = {}
    for role in ("target", "draft"):
        record = getattr(pair.manifest, role)
        twin = read_twin(pair.root / role) if record is not None else None
        if twin is not None:
            source = Source(id=f"twin:{twin['shape']} alpha={alpha_words(twin)}", revision=f"seed {twin['seed']}")
            update[role] = record.model_copy(update={"source": source})
    manifest = pair.manifest.model_copy(update=update)
    write_manifest(pair.root, manifest)
    return Pair(pair.root, manifest)
