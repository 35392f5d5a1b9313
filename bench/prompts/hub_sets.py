"""`hf:NAME[:SPLIT][@REVISION]`: prompts out of a dataset on the Hugging Face hub, or of a folder laid out like one.

Which column is the prompt is written down for well-known sets, at a commit; for others it is read off the columns'
names. Every set is read at one commit, and the suite's name says which.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

from .suite import UNCATEGORISED, Prompt, Suite, require_unique, to_prompt

PREFIX = "hf:"
_REFERENCE = re.compile(
    r"(?P<name>(?:[A-Za-z]:[\\/])?[^:@]+)(?::(?P<split>[^\[\]:@]+(?:\[[^\]]*\])?))?(?:@(?P<revision>[\w.-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 10
_ASKED = ("question", "instruction")
_MESSAGES = ("messages", "conversations", "conversation")


@dataclass(frozen=True)
class HubSet:
    """How a well-known set is read. template: a text to make of a record's columns (lists one item a line); turns: the
    column that holds a chat's turns instead. category: of all its prompts, where no column of that name says."""

    description: str
    revision: str
    split: str
    template: str = ""
    turns: str | None = None
    config: str | None = None
    chat: bool = True
    id: str | None = None
    category: str = UNCATEGORISED


HUB_SETS = {
    "openai/openai_humaneval": HubSet(
        "HumanEval (Chen et al. 2021, MIT): 164 Python functions to complete.",
        "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
        "test",
        template="{prompt}",
        chat=False,
        id="task_id",
        category="code",
    ),
    "google-research-datasets/mbpp": HubSet(
        "MBPP (Austin et al. 2021, CC-BY-4.0): Python tasks with their tests, the first 100.",
        "4bb6404fdc6cacfda99d4ac4205087b89d32030c",
        "test[:100]",
        template="{text}\nThe code must pass these tests:\n{test_list}",
        config="full",
        id="task_id",
        category="code",
    ),
    "openai/gsm8k": HubSet(
        "GSM8K (Cobbe et al. 2021, MIT): school maths in words, the first 100.",
        "740312add88f781978c0658806c59bc2815b9866",
        "test[:100]",
        template="{question}",
        config="main",
        category="maths",
    ),
    "HuggingFaceH4/mt_bench_prompts": HubSet(
        "MT-Bench (Zheng et al. 2023, Apache-2.0): 80 chats of two turns.",
        "e3a795c5e9a82ee40611c416b8a7786c73198991",
        "train",
        turns="prompt",
        id="prompt_id",
    ),
    "google/IFEval": HubSet(
        "IFEval (Zhou et al. 2023, Apache-2.0): instructions that can be checked, the first 100.",
        "966cd89545d6b6acfd7638bc708b98261ca58e84",
        "train[:100]",
        template="{prompt}",
        id="key",
        category="instructions",
    ),
}
"""Revisions are commits of the hub; licences are those the sets' pages state."""


def hub_suite(reference: str) -> Suite:
    """The suite `hf:NAME[:SPLIT][@REVISION]`.

    NAME: a dataset's hub id, or a local folder of its files. SPLIT: as the datasets library writes it, such as test or
    test[:50], after CONFIG/ where the set has several configurations. REVISION: a commit, tag or branch; a well-known
    set has one unless told otherwise, another is looked up. Raises EdgespecError for whatever cannot be read.
    """
    match = _REFERENCE.fullmatch(reference.removeprefix(PREFIX))
    if match is None:
        raise EdgespecError(f"--prompts got '{reference}'; write hf:NAME, hf:NAME:SPLIT or hf:NAME:SPLIT@REVISION")
    name, split, revision = match["name"], match["split"], match["revision"]
    local = Path(name).is_dir()
    known = None if local else HUB_SETS.get(name)
    config, split = _configuration(split, known)
    if local and revision:
        raise EdgespecError(f"'{name}' is a folder, and a revision names a commit of a hub set; leave one out")
    if not local:
        revision = _commit(name, revision or (known.revision if known else None))
    shown = f"{config}/{split}" if config else split
    title = f"{PREFIX}{Path(name).resolve().name}:{shown}" if local else f"{PREFIX}{name}:{shown}@{revision}"
    columns, records = _records(name, config, split, revision)
    prompts = []
    for number, record in enumerate(records):
        where = f"'{title}', record {number}"
        prompts.append(_known(known, record, number, where) if known else _guessed(columns, record, number, where))
    if not prompts:
        raise EdgespecError(f"'{title}' holds no record; choose another split")
    return Suite(title, require_unique(prompts, [f"'{title}', record {number}" for number in range(len(prompts))]))


def _configuration(split: str | None, known: HubSet | None) -> tuple[str | None, str]:
    config = known.config if known else None
    if split is None:
        return config, known.split if known else "test"
    if "/" in split:
        config, _, split = split.partition("/")
    return config, split


def _commit(name: str, revision: str | None) -> str:
    """The commit of hub set `name` that `revision` (None: its default branch) stands for now."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    try:
        from huggingface_hub import HfApi
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    try:
        commit = HfApi().dataset_info(name, revision=revision, timeout=_TIMEOUT_S).sha
    except Exception as error:
        raise EdgespecError(
            f"the commit of the dataset '{name}' cannot be looked up ({_first_line(error)}); check its name, or give "
            f"the commit itself, which works offline once it was fetched: {PREFIX}{name}@COMMIT"
        ) from error
    if not commit:
        raise EdgespecError(f"the hub names no commit of the dataset '{name}'; give one: {PREFIX}{name}@COMMIT")
    return str(commit)


def _records(
    name: str, config: str | None, split: str, revision: str | None
) -> tuple[list[str], Sequence[Mapping[str, Any]]]:
    """Columns and records of a split, in order."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    try:
        with _quiet(datasets):
            found = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:
        raise EdgespecError(
            f"the dataset '{name}', split '{split}', cannot be read: {_first_line(error)}; splits are written "
            "test or test[:50], after the configuration where there are several: CONFIG/test"
        ) from error
    return list(found.column_names), list(found)


def _known(known: HubSet, record: Mapping[str, Any], number: int, where: str) -> Prompt:
    missing = [name for name in (*re.findall(r"{(\w+)}", known.template), known.turns) if name and name not in record]
    if missing:
        raise EdgespecError(f"{where} has no column '{missing[0]}'; is that the right set, configuration and revision?")
    turns: Any = record[known.turns] if known.turns else [known.template.format_map(_Shown(record))]
    content = {"turns": turns} if known.chat else {"prompt": turns[0]}
    named = {"id": record.get(known.id) if known.id else None, "category": record.get("category") or known.category}
    return to_prompt(content | named, f"record-{number}", where)


def _guessed(columns: Sequence[str], record: Mapping[str, Any], number: int, where: str) -> Prompt:
    """turns, or a prompt that is a list: a chat; prompt: a text to continue; question or instruction: a chat of one
    turn; messages: what the user says in them."""
    named = {name: record.get(name) for name in ("id", "task_id", "question_id", "category")}
    if isinstance(turns := record.get("turns") or record.get("prompt"), list):
        return to_prompt(named | {"turns": turns}, f"record-{number}", where)
    if record.get("prompt"):
        return to_prompt(named | {"prompt": record["prompt"]}, f"record-{number}", where)
    for column in _ASKED:
        if record.get(column):
            return to_prompt(named | {"turns": [record[column]]}, f"record-{number}", where)
    for column in _MESSAGES:
        if isinstance(record.get(column), list):
            return to_prompt(named | {"turns": _said_by_user(record[column])}, f"record-{number}", where)
    raise EdgespecError(
        f"{where} has no text in a column that is known to hold prompts (its columns: {', '.join(columns)}; known: "
        f"turns, prompt, {', '.join((*_ASKED, *_MESSAGES))}); write the prompts to a JSONL file instead"
    )


def _said_by_user(messages: Sequence[Any]) -> list[str]:
    """Contents of the user's messages, in the two spellings that are common (role/content and from/value)."""
    said = []
    for message in messages:
        if isinstance(message, Mapping) and (message.get("role") or message.get("from")) in ("user", "human"):
            said.append(message.get("content") or message.get("value") or "")
    return said


class _Shown(dict[str, Any]):
    """Columns for a template: a list shows one item a line."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return "\n".join(map(str, value)) if isinstance(value, list) else value


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep the library's progress bars off the terminal while it loads, and put them back afterwards."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _missing(error: ModuleNotFoundError) -> EdgespecError:
    return EdgespecError(
        f"prompts from the hub need the package '{error.name}'; install it with: pip install \"edgespec[prompts]\""
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")
