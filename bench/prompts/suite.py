"""A prompt, a suite of prompts, and JSON lines read into them.

A line is a JSON object with either `prompt`, a text that the model continues, or `turns`, what a user says one after
the other in a chat; besides them `id` (or `task_id`, `question_id`) and `category`. Anything else is ignored, so files
of Spec-Bench and MT-Bench load as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgespec.errors import EdgespecError

UNCATEGORISED = "uncategorised"


@dataclass(frozen=True)
class Prompt:
    """What is asked. `id` is unique in its suite; `turns` has at least one.

    chat: the turns are what a user says, for the model's chat template; else turns[0] is a text to continue as it is.
    """

    id: str
    category: str
    turns: tuple[str, ...]
    chat: bool

    @property
    def text(self) -> str:
        """The first turn."""
        return self.turns[0]


@dataclass(frozen=True)
class Suite:
    """Prompts that are measured together. `name` is a packaged suite's, a download's, a hub set's, or a file's."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def sha256(self) -> str:
        """Hash of ids, categories and all turns in order: two runs with the same one asked the same things.

        A text to continue enters as a string and a chat as a list, so the two kinds never hash alike.
        """
        content = [
            [prompt.id, prompt.category, list(prompt.turns) if prompt.chat else prompt.text] for prompt in self.prompts
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


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
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    wheres = [f"'{source}', line {number}" for number, _ in numbered]
    prompts = [_parse_line(line, number, where) for (number, line), where in zip(numbered, wheres, strict=True)]
    if not prompts:
        raise EdgespecError(f"'{source}' holds no prompt; write one JSON object with 'prompt' or 'turns' on each line")
    return require_unique(prompts, wheres)


def require_unique(prompts: Sequence[Prompt], wheres: Iterable[str]) -> tuple[Prompt, ...]:
    """The prompts as a tuple. Raises EdgespecError for an id that occurs twice, saying where."""
    seen: set[str] = set()
    for prompt, where in zip(prompts, wheres, strict=True):
        if prompt.id in seen:
            raise EdgespecError(f"{where}: the id '{prompt.id}' occurs twice; make ids unique")
        seen.add(prompt.id)
    return tuple(prompts)


def to_prompt(record: Mapping[str, Any], unnamed: str, where: str) -> Prompt:
    """One record as a prompt; `unnamed` is its id when it has none, `where` names it in errors."""
    text, turns = record.get("prompt"), record.get("turns")
    if text is not None and turns is not None:
        raise EdgespecError(f"{where} has both 'prompt' (a text to continue) and 'turns' (a chat); keep one of them")
    if text is None and turns is None:
        raise EdgespecError(f"{where} has no text under 'prompt' and no list under 'turns'; every line needs one")
    given = [text] if turns is None else turns
    if not isinstance(given, list) or not given or not all(isinstance(turn, str) and turn.strip() for turn in given):
        what = "no text under 'prompt'" if turns is None else "under 'turns' something else than a list of texts"
        raise EdgespecError(f"{where} has {what}; every line needs text that is not empty")
    name = next((record[key] for key in ("id", "task_id", "question_id") if record.get(key) is not None), unnamed)
    return Prompt(str(name), str(record.get("category") or UNCATEGORISED), tuple(given), chat=turns is not None)


def _parse_line(line: str, number: int, where: str) -> Prompt:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise EdgespecError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(record, dict):
        raise EdgespecError(f'{where} is no JSON object; write {{"prompt": "..."}} or {{"turns": ["...", "..."]}}')
    return to_prompt(record, f"line-{number}", where)
