"""Text to tokens: files that a user gives, prompts that a target is asked, and windows of equal length cut from them.

Calibration and the measurement of cost take their text from here, so that both are bounded: a book is no single prompt,
and a file of a million lines is not read by a model in full. What is taken is drawn by a seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.engine.reading import Reading, start_ids
from edgespec.errors import EdgespecError
from edgespec.runtime.text import Words

WINDOW_TOKENS = 256
FEWEST_TOKENS = 32
"""Of a window: shorter ones show a model too little, and are taken only where there is nothing longer."""
LARGEST_FILE = 16_000_000
_PIECE = 20_000
"""Characters that are tokenized at once, up to the end of a line."""
_POOL = 16
"""So many times the windows that are wanted are tokenized at most; those that are used are drawn from them."""


@dataclass(frozen=True)
class Ask:
    """What a model is asked. chat: `text` is what a user says; else it is a text to continue."""

    text: str
    chat: bool


@dataclass(frozen=True)
class Windows:
    """Token ids of what is used. found: how many windows there were to draw from, at least."""

    ids: tuple[tuple[int, ...], ...]
    found: int

    @property
    def described(self) -> str:
        lengths = [len(window) for window in self.ids]
        of = f" of {self.found}" if self.found > len(lengths) else ""
        noun = "window" if self.found == 1 else "windows"
        return f"{len(lengths)}{of} {noun}, {sum(lengths):,} tokens, {min(lengths)} to {max(lengths)} each"


class Tokens:
    """A model's tokenizer, and its chat template where it has one."""

    def __init__(self, folder: Path) -> None:
        self._words = Words(folder)
        self.start = start_ids(self._words)
        """What the tokenizer puts before a text, such as <bos>: without it Gemma and Llama 3 compute nonsense."""

    def encode(self, ask: Ask) -> list[int]:
        """Ids of what is asked, without what a text begins with; what a user says goes through the chat template, when
        there is one."""
        text = self._reading(ask).text
        return [token for piece in _pieces(text) for token in self._words.encode(piece, special=False)]

    def reach(self, ask: Ask, enough: int) -> bool:
        """Whether a text has `enough` tokens; no more of it is read than that takes."""
        if ask.chat:  # what a user says is short, and its template counts
            return len(self.encode(ask)) >= enough
        found = 0
        for piece in _pieces(ask.text):
            found += len(self._words.encode(piece, special=False))
            if found >= enough:
                return True
        return False

    def prompt(self, ask: Ask, most: int) -> list[int]:
        """What the model reads when it is asked, at most the last `most` ids of it; a text begins as the tokenizer
        begins one, cut or not."""
        start = self.start if self._reading(ask).alone else ()
        return [*start, *self.encode(ask)[-max(1, most - len(start)) :]]

    def _reading(self, ask: Ask) -> Reading:
        if ask.chat and self._words.has_chat_template:
            return Reading.of_chat(self._words, [{"role": "user", "content": ask.text}])
        return Reading(ask.text)


def windows(
    tokens: Tokens, asks: Sequence[Ask], count: int, length: int, seed: int, joined: bool = False
) -> Windows | None:
    """At most `count` windows of at most `length` tokens, drawn by `seed`; None where no text has two tokens.

    A long text is cut, and each window begins as the tokenizer begins a text. What a user says in a chat stays whole
    in its template: only the end of it is kept. joined: short texts are put together until they fill windows.
    """
    draw = random.Random(seed)
    found: list[tuple[int, ...]] = []
    rest: list[int] = []
    for ask in draw.sample(list(asks), len(asks)):
        ids = tokens.encode(ask)
        if joined:
            rest += ids
            cut, rest = _cut(rest, tokens.start, length, whole=True)
            found += cut
        elif ask.chat:
            found.append(tuple(ids[-length:]))
        else:
            found += _cut(ids, tokens.start, length)[0]
        if len(found) >= _POOL * count:
            break
    if rest and not found:
        found = _cut(rest, tokens.start, length)[0]
    found = [window for window in found if len(window) > 1]
    usable = [window for window in found if len(window) >= FEWEST_TOKENS] or found
    return Windows(tuple(draw.sample(usable, min(count, len(usable)))), len(usable)) if usable else None


def _cut(
    ids: list[int], start: Sequence[int], length: int, whole: bool = False
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Windows that begin with `start`, and the ids that are left over. whole: only windows of full length."""
    own = length - len(start)
    end = len(ids) - len(ids) % own if whole else len(ids)
    return [(*start, *ids[at : min(at + own, end)]) for at in range(0, end, own)], ids[end:]


def _pieces(text: str) -> list[str]:
    """The text in parts that end with a line, because a tokenizer's time and memory may grow faster than its text."""
    pieces, at = [], 0
    while len(text) - at > _PIECE:
        end = text.rfind("\n", at + 1, at + _PIECE) + 1 or at + _PIECE
        pieces.append(text[at:end])
        at = end
    return [*pieces, text[at:]]


def read_texts(path: Path) -> list[Ask]:
    """Texts of the user's file: .jsonl with `text`, `prompt` or `turns` a line, else one text.

    Raises EdgespecError, with the line for JSON.
    """
    if not path.is_file():
        raise EdgespecError(f"there is no file '{path}' with text; give a text or .jsonl file")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise EdgespecError(
            f"'{path}' has {size / 1e6:,.0f} MB, and {LARGEST_FILE / 1e6:.0f} are enough to draw some thousand tokens "
            "from; give a part of it"
        )
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise EdgespecError(f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    if path.suffix.lower() != ".jsonl":
        texts = [Ask(content, chat=False)]
    else:
        lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
        texts = [_read_line(line, f"'{path}', line {number}") for number, line in lines]
    if not any(text.text.strip() for text in texts):
        raise EdgespecError(f"'{path}' holds no text")
    return texts


def _read_line(line: str, where: str) -> Ask:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise EdgespecError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    if isinstance(record, dict):
        for key in ("text", "prompt"):
            if isinstance(record.get(key), str):
                return Ask(record[key], chat=False)
        turns = record.get("turns")
        if isinstance(turns, list) and turns and isinstance(turns[0], str):
            return Ask(turns[0], chat=True)
    raise EdgespecError(f"{where} has no text under 'text' or 'prompt' and no list under 'turns'; every line needs one")
