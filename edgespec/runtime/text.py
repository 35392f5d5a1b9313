"""Text and tokens: the pair's tokenizer, and text that grows as tokens come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ..engine.reading import HasTokenizer
from ..signals import keeping_signal_stack
from .spelling import Decode, spelling

_LONG = 32
"""Tokens after which a growing text is begun anew, so that a long line is not decoded over and over."""


_FIRST = threading.Lock()


class Words(HasTokenizer):
    """The target's tokenizer. Threads may use it at once."""

    _without_template = (
        "give it plain text to continue, or chat with raw=True, where the conversation is one growing text"
    )

    @keeping_signal_stack()
    def __init__(self, folder: Path) -> None:
        import openvino_genai

        self._tokenizer = openvino_genai.Tokenizer(str(folder))
        self.spell: Decode = spelling(folder, self.decode) or self.decode
        """As `decode`, and fast where the tokenizer allows: for text that streams."""
        with _FIRST:
            # A process's first look into a tensor (openvino 2026.4.1) makes a static table and lets go of Python's lock
            # (GIL) meanwhile; a second thread that looks just then holds that lock and waits for the table, for ever.
            self.encode("a")


class GrowingText:
    """Text of a growing list of ids: only what can no longer change is given out (a character may span tokens)."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._pending: list[int] = []
        self._shown = ""

    def add(self, tokens: Sequence[int]) -> str:
        """The text that `tokens` make certain."""
        self._pending.extend(tokens)
        text = self._decode(self._pending)
        if text.endswith("\ufffd"):  # half a character, perhaps
            return ""
        fresh = text[len(self._shown) :]
        self._shown = text
        if text.endswith("\n") or len(self._pending) > _LONG:
            self._pending = self._pending[-1:]  # one stays: some detokenizers drop a blank at the very start
            self._shown = self._decode(self._pending)
        return fresh

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        text, self._shown = self._decode(self._pending)[len(self._shown) :], ""
        self._pending = []
        return text
