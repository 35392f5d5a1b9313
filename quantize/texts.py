"""Text to tokens: files that a user gives, prompts that a target is asked, and windows of equal length cut from them.

Calibration and the measurement of cost take their text from here, so that both are bounded: a book is no single prompt,
and a file of a million lines is not read by a model in full. What is taken is drawn by a seed. Which ids a text has is
for edgespec/engine/reading.py to say: a window begins as what users ask begins.
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

    def read(self, ask: Ask) -> list[int]:
        """What the model reads when it is asked: what a user says goes through the chat template, when there is one; a
        text that stands alone begins as the tokenizer begins one."""
        reading = self._reading(ask)
        pieces = _pieces(reading.text)
        if len(pieces) == 1:
            return reading.ids(self._words)
        ids = [token for piece in pieces for token in self._words.encode(piece, special=False)]
        return [*self._start_of(reading), *ids]

    def reach(self, ask: Ask, enough: int) -> bool:
        """Whether the model reads `enough` tokens of it; no more of a text is tokenized than that takes."""
        reading = self._reading(ask)
        if not reading.text:
            return False
        found = len(self._start_of(reading))
        for piece in _pieces(reading.text):
            found += len(self._words.encode(piece, special=False))
            if found >= enough:
                return True
        return False

    def prompt(self, ask: Ask, most: int) -> list[int]:
        """The same, at most the last `most` ids of it; cut or not, it begins as it began."""
        return _end(self.read(ask), self.start, most)

    def _start_of(self, reading: Reading) -> tuple[int, ...]:
        return self.start if reading.alone else ()

    def _reading(self, ask: Ask) -> Reading:
        if ask.chat and self._words.has_chat_template:
            return Reading.of_chat(self._words, [{"role": "user", "content": ask.text}])
        return Reading(ask.text)


def windows(
    tokens: Tokens, asks: Sequence[Ask], count: int, length: int, seed: int, joined: bool = False
) -> Windows | None:
    """At most `count` windows of at most `length` tokens, drawn by `seed`; None where no text has two tokens.

    A long text is cut, and each window begins as the tokenizer begins a text. What a user says in a chat stays whole
    in its template, if there is one: only the end of it is kept, behind what it began with. joined: short texts are put
    together until they fill windows.
    """
    draw = random.Random(seed)
    found: list[tuple[int, ...]] = []
    rest: list[int] = []
    for ask in draw.sample(list(asks), len(asks)):
        ids = tokens.read(ask)
        if joined:
            rest += ids
            whole, rest = cut(rest, tokens.start, length, whole=True)
            found += whole
        elif ask.chat:
            found.append(tuple(_end(ids, tokens.start, length)))
        else:
            found += cut(ids, tokens.start, length)[0]
        if len(found) >= _POOL * count:
            break
    if rest and not found:
        found = cut(rest, tokens.start, length)[0]
    found = [window for window in found if len(window) > 1]
    usable = [window for window in found if len(window) >= FEWEST_TOKENS] or found
    return Windows(tuple(draw.sample(usable, min(count, len(usable)))), len(usable)) if usable else None


def cut(
    ids: list[int], start: Sequence[int], length: int, whole: bool = False
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Windows of `length` ids that begin with `start`, which is put before those that do not begin so by themselves;
    and the ids that are left over. whole: only windows of full length."""
    made: list[tuple[int, ...]] = []
    at = 0
    while at < len(ids):
        begin = _lacking(ids[at:], start)
        end = at + length - len(begin)
        if whole and end > len(ids):
            break
        made.append((*begin, *ids[at:end]))
        at = end
    return made, ids[at:]


def _end(ids: list[int], start: Sequence[int], most: int) -> list[int]:
    """The last `most` ids, of which the first are `start` where it is what all began with."""
    if len(ids) <= most:
        return ids
    begin = () if _lacking(ids, start) else start
    return [*begin, *ids[-max(1, most - len(begin)) :]]


def _lacking(ids: Sequence[int], start: Sequence[int]) -> Sequence[int]:
    """What has to stand before `ids`, for them to begin with `start`."""
    return () if list(ids[: len(start)]) == list(start) else start


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
