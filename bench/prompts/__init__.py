"""What `--prompts` may name, and the suite that it means.

suite.py          what a prompt and a suite are, JSON lines
packaged.py       the suites that come with edgespec
downloads.py      suites of others, fetched once at a pinned hash
hub_sets.py       datasets of the Hugging Face hub
contamination.py  what a draft has seen of them
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgespec.errors import EdgespecError

from .downloads import DOWNLOADS, downloaded_suite, is_fetched
from .hub_sets import HUB_SETS, PREFIX, hub_suite
from .packaged import PACKAGED, packaged_suite
from .suite import Prompt, Suite, parse, spread

__all__ = ["Choice", "Prompt", "Suite", "choices", "load_suite", "parse", "spread"]


@dataclass(frozen=True)
class Choice:
    """One thing that --prompts can name. prompts: how many, and categories: which; None where only reading it tells.
    ready: whether it can be read without the network."""

    name: str
    description: str
    prompts: int | None
    categories: tuple[str, ...] | None
    ready: bool


def load_suite(name: str) -> Suite:
    """A packaged suite (quick, code, tasks-quick, tasks, full), a fetched one (spec-bench), hf:NAME[:SPLIT][@REVISION],
    or a JSONL file. Raises EdgespecError naming what is wrong, for a file with its line."""
    if name in PACKAGED:
        return packaged_suite(name)
    if name in DOWNLOADS:
        return downloaded_suite(name)
    if name.startswith(PREFIX):
        return hub_suite(name)
    path = Path(name)
    if not path.is_file():
        raise EdgespecError(
            f"--prompts got '{name}', which is no file; choose {', '.join((*PACKAGED, *DOWNLOADS))}, hf:NAME or a "
            "JSONL file (see: edgespec prompts list)"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgespecError(f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return Suite(path.name, parse(text, str(path)))


def choices() -> list[Choice]:
    """Everything that has a name: packaged suites, downloads, well-known sets of the hub."""
    listed = []
    for name, packaged in PACKAGED.items():
        prompts = packaged_suite(name).prompts
        listed.append(Choice(name, packaged.description, len(prompts), _categories(prompts), ready=True))
    for name, download in DOWNLOADS.items():
        listed.append(Choice(name, download.description, None, None, ready=is_fetched(name)))
    for name, known in HUB_SETS.items():
        listed.append(Choice(f"{PREFIX}{name}", known.description, None, None, ready=False))
    return listed


def _categories(prompts: tuple[Prompt, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(prompt.category for prompt in prompts))
