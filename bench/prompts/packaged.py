"""The suites that come with edgespec: which files of bench/prompts each is made of."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from edgespec.errors import EdgespecError

from .suite import Prompt, Suite, parse, spread

TASKS = ("chat", "coding", "summary", "translation", "maths", "retrieval")


@dataclass(frozen=True)
class Packaged:
    """files: their names in bench/prompts without .jsonl. count: how many prompts are taken, spread over the
    categories; None: all."""

    description: str
    files: tuple[str, ...]
    count: int | None = None


PACKAGED = {
    "quick": Packaged(
        "Python to continue: 8 of 'code', spread over its kinds. A check, not a measurement.", ("code",), 8
    ),
    "code": Packaged("Python to continue: 30 half-written classes, functions, tests, data, scripts.", ("code",)),
    "tasks-quick": Packaged("12 of 'tasks', two of each task. For chat models.", TASKS, 12),
    "tasks": Packaged(
        "What a desktop assistant is asked: chat of two turns, code, summaries, translation, maths, retrieval. "
        "For chat models.",
        TASKS,
    ),
    "full": Packaged("Everything packaged: 'code' and 'tasks'.", ("code", *TASKS)),
}


def packaged_suite(name: str) -> Suite:
    """The suite `name`, a key of PACKAGED. Raises EdgespecError when this installation lacks one of its files."""
    packaged = PACKAGED[name]
    prompts = [prompt for file in packaged.files for prompt in _read(file)]
    return Suite(name, spread(prompts, packaged.count) if packaged.count else tuple(prompts))


def _read(file: str) -> tuple[Prompt, ...]:
    resource = resources.files(__package__) / f"{file}.jsonl"
    if not resource.is_file():
        raise EdgespecError(f"the prompts '{file}.jsonl' are missing from this installation; install edgespec again")
    return parse(resource.read_text(encoding="utf-8"), f"{file}.jsonl")
