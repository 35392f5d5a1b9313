"""Prompt suites: JSON lines with `prompt` (or `turns`: the first is used), and optionally `id` and `category`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

QUICK = 8
UNCATEGORISED = "uncategorised"


@dataclass(frozen=True)
class Prompt:
    """A text to continue. `id` is unique in its suite."""

    id: str
    category: str
    text: str


@dataclass(frozen=True)
class Suite:
    """Prompts that are measured together. `name` is quick, code, full or the file's name."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def sha256(self) -> str:
        """Hash of ids, categories and texts in order: two runs with the same one asked the same things."""
        content = [[prompt.id, prompt.category, prompt.text] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def load_suite(name: str) -> Suite:
    """quick: eight fixed prompts spread over the categories of code; code: that suite; full: every suite that came
    with edgespec; anything else: a JSONL file. Raises EdgespecError naming file and line."""
    if name in ("quick", "code"):
        prompts = _packaged("code.jsonl")
        return Suite(name, spread(prompts, QUICK) if name == "quick" else prompts)
    if name == "full":
        return Suite(name, _full())
    path = Path(name)
    if not path.is_file():
        raise EdgespecError(f"--prompts got '{name}', which is no file; choose quick, code, full or a JSONL file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgespecError(f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return Suite(path.name, parse(text, str(path)))


def spread(prompts: Sequence[Prompt], count: int) -> tuple[Prompt, ...]:
    """`count` prompts taken from the categories in turn, each category in file order; fewer when there are fewer."""
    by_category: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_category.setdefault(prompt.category, []).append(prompt)
    rounds = max(map(len, by_category.values()), default=0)
    in_turn = [group[index] for index in range(rounds) for group in by_category.values() if index < len(group)]
    return tuple(in_turn[:count])


def parse(text: str, source: str) -> tuple[Prompt, ...]:
    """Prompts of a JSONL text; `source` names it in errors. Empty lines are skipped."""
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        prompt = _parse_line(line, number, f"'{source}', line {number}")
        if prompt.id in prompts:
            raise EdgespecError(f"'{source}', line {number}: the id '{prompt.id}' occurs twice; make ids unique")
        prompts[prompt.id] = prompt
    if not prompts:
        raise EdgespecError(f"'{source}' holds no prompt; write one JSON object with a 'prompt' on each line")
    return tuple(prompts.values())


def _parse_line(line: str, number: int, where: str) -> Prompt:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise EdgespecError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(record, dict):
        raise EdgespecError(f'{where} is no JSON object; write {{"prompt": "..."}}')
    text = record.get("prompt")
    turns = record.get("turns")
    if text is None and isinstance(turns, list) and turns:
        text = turns[0]
    if not isinstance(text, str) or not text.strip():
        raise EdgespecError(f"{where} has no text under 'prompt' (or first in 'turns'); every line needs one")
    name = next((record[key] for key in ("id", "task_id", "question_id") if key in record), f"line-{number}")
    return Prompt(str(name), str(record.get("category", UNCATEGORISED)), text)


def _packaged(name: str) -> tuple[Prompt, ...]:
    resource = resources.files(__package__) / "prompts" / name
    if not resource.is_file():
        raise EdgespecError(f"the prompt suite '{name}' is missing from this installation; install edgespec again")
    return parse(resource.read_text(encoding="utf-8"), name)


def _full() -> tuple[Prompt, ...]:
    folder = resources.files(__package__) / "prompts"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".jsonl"))
    suites = {name: _packaged(name) for name in names}
    if len(suites) == 1:
        return next(iter(suites.values()))
    return tuple(
        Prompt(f"{name.removesuffix('.jsonl')}/{prompt.id}", prompt.category, prompt.text)
        for name, prompts in suites.items()
        for prompt in prompts
    )
