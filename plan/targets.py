"""What is to be planned for: from a word on the command line to shapes, and drafts to propose where none were named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

from .layout import read_layout
from .separation import require_separable
from .shapes import DEFAULT_VOCAB, SHAPES, find_shape
from .store import TwinSpec

BUDGET = 0.03
"""Parameters of a proposed draft, at most, as a share of the target's. FastDraft's are 1.3 and 1.9 %."""
DEPTHS, WIDTHS = (2, 4, 6, 8, 12), (256, 384, 512, 768, 1024, 1536)
PROPOSED = 5
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)

FetchConfig = Callable[[str], Mapping[str, Any]]


def hub_config(name: str) -> Mapping[str, Any]:
    """The config.json of a hub id, and nothing else of it. Raises EdgespecError with the reason."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError
    except ModuleNotFoundError as error:
        raise EdgespecError(
            f"'{name}' is on the Hugging Face hub, and reading it needs the package huggingface_hub; install it with: "
            'pip install "edgespec[export]"'
        ) from error
    try:
        content = json.loads(Path(hf_hub_download(name, "config.json")).read_bytes())
    except GatedRepoError as error:
        raise EdgespecError(
            f"'{name}' is gated: accept its terms on its page, then log in with: hf auth login; or give its config.json"
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        raise EdgespecError(f"the Hugging Face hub has no config.json of '{name}'; check the spelling") from error
    except (OSError, ValueError) as error:
        raise EdgespecError(
            f"the config.json of '{name}' could not be fetched ({type(error).__name__}); give a local config.json, or "
            f"one of {', '.join(SHAPES)}"
        ) from error
    if not isinstance(content, dict):
        raise EdgespecError(f"the config.json of '{name}' does not hold a JSON object")
    return content


def find_target(target: str, fetch: FetchConfig = hub_config) -> tuple[str, dict[str, Any]]:
    """Name and config of TARGET: a built-in shape, a config.json or its folder, a grid shape, else a hub id."""
    if target not in SHAPES and not Path(target).exists() and _HUB_ID.fullmatch(target):
        return target.split("/")[-1], dict(fetch(target))
    return find_shape(target)


def make_target(target: str, precision: str, device: str, fetch: FetchConfig = hub_config) -> TwinSpec:
    name, config = find_target(target, fetch)
    vocab = read_layout({"vocab_size": DEFAULT_VOCAB, **config}, name).vocab
    return TwinSpec("target", name, config, vocab, precision, device)


def make_drafts(
    shapes: Sequence[str], target: TwinSpec, precision: str, fetch: FetchConfig = hub_config
) -> list[TwinSpec]:
    """The drafts that were named, each with the target's vocabulary. Raises EdgespecError for one that cannot go with
    it."""
    drafts = []
    for shape in dict.fromkeys(shapes):
        name, config = find_target(shape, fetch)
        spec = TwinSpec("draft", name, config, target.vocab, precision, target.device)
        if spec.layout.parameters >= target.layout.parameters:
            raise EdgespecError(
                f"the draft '{name}' has {spec.layout.parameters / 1e6:,.0f} M parameters and the target "
                f"'{target.name}' "
                f"{target.layout.parameters / 1e6:,.0f} M; a draft has to be smaller"
            )
        require_separable(spec.layout.hidden, target.vocab, name)
        drafts.append(spec)
    return drafts


def propose(target: TwinSpec, precision: str, budget: int | None = None) -> list[TwinSpec]:
    """A grid of depth and width within `budget` parameters (BUDGET of the target's unless given): PROPOSED shapes
    spread over it, the extremes among them, small ones first.

    Raises EdgespecError when not even the smallest fits.
    """
    limit = budget or round(BUDGET * target.layout.parameters)
    fitting = []
    for width in WIDTHS:
        for depth in DEPTHS:
            try:
                (spec,) = make_drafts([f"{depth}x{width}"], target, precision)
            except EdgespecError:
                continue
            if spec.layout.parameters <= limit:
                fitting.append(spec)
    if not fitting:
        raise EdgespecError(
            f"no draft of the grid has at most {limit / 1e6:,.1f} M parameters with {target.vocab:,} tokens; raise "
            "--draft-parameters, or name shapes with --drafts"
        )
    fitting.sort(key=lambda spec: spec.layout.parameters)
    count = min(PROPOSED, len(fitting))
    return [fitting[round(index * (len(fitting) - 1) / max(1, count - 1))] for index in range(count)]
