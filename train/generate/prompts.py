"""Where prompts come from: a text or JSON lines file, parquet, a dataset of the hub, cut documents, the target."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

_COLUMNS = ("prompt", "instruction", "question", "text", "content")
"""Where a record's text is looked for unless a column is named, in this order."""
_CHATS = ("messages", "conversations", "turns")
_MARK = "\ue000prompt\ue000"


@dataclass(frozen=True)
class Prompt:
    """What the target is asked. turns: one text to continue, or what a user says (the first turn is what is answered).

    chat: whether the chat template is applied; None: where the target has one."""

    text: str
    chat: bool | None = None
    task: str = ""


def read_prompts(source: str, *, column: str | None = None) -> Iterator[Prompt]:
    """Prompts of `source`, one after the other; nothing is held in memory.

    source: a .txt file (a prompt a line), .jsonl or .parquet, or `hf:NAME[:SPLIT]`, a dataset of the hub that is
    streamed through `datasets`. A record's text stands under `column`, else under the first it has of prompt,
    instruction (with `input` behind it), question, text, content; or it is a chat (messages, conversations, turns), of
    which the first user's turn is taken. Raises EdgespecError for a source that is missing, empty or has no such text.
    """
    count = 0
    for number, record in enumerate(_records(source), start=1):
        prompt = _prompt(record, column, f"'{source}', record {number}")
        if prompt.text.strip():
            count += 1
            yield prompt
    if not count:
        raise EdgespecError(f"'{source}' holds no prompt; give one a line, or records with text under 'prompt'")


def _records(source: str) -> Iterator[Any]:
    if source.startswith("hf:"):
        yield from _hub(source)
        return
    path = Path(source)
    if not path.is_file():
        raise EdgespecError(f"'{source}' is no file; give a .txt, .jsonl or .parquet file, or hf:NAME[:SPLIT]")
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    yield from batch.to_pylist()
        except pyarrow.ArrowInvalid as error:
            raise EdgespecError(f"'{path}' is no readable parquet file: {error}") from error
        return
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                if path.suffix != ".jsonl":
                    yield {"prompt": line.rstrip("\r\n")}
                    continue
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise EdgespecError(f"'{path}', line {number} is not JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise EdgespecError(f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _hub(source: str) -> Iterator[Any]:
    from datasets import load_dataset

    name, _, split = source.removeprefix("hf:").partition(":")
    try:
        yield from load_dataset(name, split=split or "train", streaming=True)
    except EdgespecError:
        raise
    except Exception as error:  # datasets, huggingface_hub and httpx each have their own
        raise EdgespecError(f"the dataset '{source}' cannot be read: {error}") from error


def _prompt(record: Any, column: str | None, where: str) -> Prompt:
    if not isinstance(record, Mapping):
        raise EdgespecError(f'{where} is no object; write {{"prompt": "..."}}')
    task = str(record.get("category") or record.get("task") or "")
    if column is not None:
        if not isinstance(record.get(column), str):
            raise EdgespecError(
                f"{where} has no text under '{column}'; it has {', '.join(map(str, record)) or 'nothing'}"
            )
        return Prompt(str(record[column]), None, task)
    for name in _COLUMNS:
        if isinstance(record.get(name), str):
            text = str(record[name])
            if name == "instruction" and isinstance(record.get("input"), str) and record["input"].strip():
                text = f"{text}\n\n{record['input']}"
            return Prompt(text, None, task)
    for name in _CHATS:
        turns = record.get(name)
        if isinstance(turns, list) and turns:
            return Prompt(_first_said(turns, where), True, task)
    raise EdgespecError(f"{where} has no text under {', '.join((*_COLUMNS, *_CHATS))}; name its column with --column")


def _first_said(turns: Sequence[Any], where: str) -> str:
    """What the user says first, in the shapes that are met: texts, {role, content}, {from, value}."""
    for turn in turns:
        if isinstance(turn, str):
            return turn
        if isinstance(turn, Mapping):
            role = turn.get("role", turn.get("from"))
            said = turn.get("content", turn.get("value"))
            if role in ("user", "human") and isinstance(said, str):
                return said
    raise EdgespecError(f"{where} has a chat in which no user says anything")


def encode(prompt: Prompt, tokenizer: Any) -> list[int]:
    """Token ids as the target will meet them in service: the chat template applied where there is one.

    Raises EdgespecError for a chat prompt to a model without a chat template.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if prompt.chat and not has_template:
        raise EdgespecError(
            "this target has no chat template, and a prompt is a chat; give it plain texts to continue instead"
        )
    if prompt.chat is not False and has_template:
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.text}], add_generation_prompt=True, tokenize=False
        )
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer(prompt.text)["input_ids"])


def magpie_prefix(tokenizer: Any) -> tuple[str, str]:
    """(what stands before a user's words in the chat template, what stands right behind them).

    Given the first, an aligned target writes a user's request itself (Xu et al. 2024, "Magpie"). A target without a
    chat template starts from its beginning of text, and writes whatever it was trained on.
    """
    if not getattr(tokenizer, "chat_template", None):
        return tokenizer.bos_token or tokenizer.eos_token or "", ""
    whole = str(tokenizer.apply_chat_template([{"role": "user", "content": _MARK}], tokenize=False))
    before, mark, after = whole.partition(_MARK)
    if not mark:
        raise EdgespecError(
            "this target's chat template hides what the user says, so it cannot be made to write it; give prompts"
        )
    return before, after


def written_request(text: str, behind: str) -> str:
    """Of what the target wrote in the user's place, the request: up to where the template would go on."""
    ending = behind.strip().split("\n")[0].strip()
    if ending and ending in text:
        text = text[: text.index(ending)]
    return text.strip()


def cut_prompts(
    documents: Sequence[Sequence[int]], count: int, shortest: int, longest: int, seed: int
) -> list[list[int]]:
    """`count` prefixes: each starts at the head of a random document's random window and has shortest..longest ids.

    Raises EdgespecError when no document is long enough to leave something to answer.
    """
    draw = random.Random(seed)
    long_enough = [document for document in documents if len(document) > 2 * shortest]
    if not long_enough:
        raise EdgespecError(f"no document has more than {2 * shortest} tokens to cut a prompt from; give longer texts")
    prompts = []
    for _ in range(count):
        document = draw.choice(long_enough)
        length = draw.randint(shortest, min(longest, len(document) - 1))
        start = draw.choice((0, draw.randint(0, len(document) - length)))
        prompts.append(list(document[start : start + length]))
    return prompts
