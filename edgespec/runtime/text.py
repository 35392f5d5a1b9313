"""Text and tokens: the pair's tokenizer, and text that grows as tokens come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import EdgespecError, last_line
from ..signals import keeping_signal_stack
from .spelling import Decode, spelling

_LONG = 32
"""Tokens after which a growing text is begun anew, so that a long line is not decoded over and over."""


class Words:
    """The target's tokenizer. Threads may use it at once."""

    @keeping_signal_stack()
    def __init__(self, folder: Path) -> None:
        import openvino_genai

        self._tokenizer = openvino_genai.Tokenizer(str(folder))
        self.spell: Decode = spelling(folder, self.decode) or self.decode
        """As `decode`, and fast where the tokenizer allows: for text that streams."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`, no chat template. special: with what the tokenizer adds by itself, such as a BOS: for
        text that stands alone, not for the output of a chat template, which has its own."""
        text = text.encode("utf-8", errors="replace").decode("utf-8")  # a lone surrogate is no text
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=special).input_ids.data[0]]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))) if ids else ""

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The model's chat template applied to `messages`. Raises EdgespecError when the model has none, or when it
        does not take them (some know no system message)."""
        if not self.has_template:
            raise EdgespecError(
                "this model has no chat template; give it plain text to continue, or chat with raw=True, where the "
                "conversation is one growing text"
            )
        try:
            return str(self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True))
        except RuntimeError as error:
            raise EdgespecError(f"the model's chat template refuses this conversation: {last_line(error)}") from error


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
