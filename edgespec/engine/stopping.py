"""Where an answer ends: at a token that ends the text, or before a string that the request does not want to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Ending:
    """Takes tokens as they are decided and releases those that belong to the answer for certain.

    A token of `stop_ids` ends the answer and belongs to it. A stop string ends it too, and neither the string nor a
    token that holds a part of it belongs to the answer; tokens that may turn out to be its beginning are held back.
    """

    def __init__(
        self, stop_ids: frozenset[int], stop_strings: Sequence[str], decode: Callable[[Sequence[int]], str]
    ) -> None:
        self._stop_ids = stop_ids
        self._strings = tuple(stop_strings)
        self._decode = decode
        self._before: list[int] = []  # the last token released: some detokenizers drop a blank at the very start
        self._held: list[int] = []
        self.reached = False

    def take(self, tokens: Sequence[int]) -> list[int]:
        """The tokens that are certain now. Once `reached` is true, nothing more may be given."""
        if not self._strings:
            for place, token in enumerate(tokens):
                if token in self._stop_ids:
                    self.reached = True
                    return list(tokens[: place + 1])
            return list(tokens)
        released: list[int] = []
        for token in tokens:
            released += self._take_one(token)
            if self.reached:
                break
        return released

    def rest(self) -> list[int]:
        """What is still held back, when the answer ends for another reason."""
        return self._release(len(self._held))

    def _take_one(self, token: int) -> list[int]:
        self._held.append(token)
        if token in self._stop_ids:
            self.reached = True
            return self.rest()
        text = self._text(len(self._held))
        certain, self.reached = before_stop(text, self._strings)
        if self.reached:
            keep, self._held = self._whole_before(certain), []
            return keep
        if text.endswith("\ufffd"):  # half a character
            return []
        return self._release(len(self._whole_before(certain)))

    def _text(self, count: int) -> str:
        before = len(self._decode(self._before))
        return self._decode(self._before + self._held[:count])[before:]

    def _whole_before(self, end: int) -> list[int]:
        """The held tokens whose text lies before character `end`."""
        count = len(self._held)
        while count and len(self._text(count)) > end:
            count -= 1
        return self._held[:count]

    def _release(self, count: int) -> list[int]:
        released, self._held = self._held[:count], self._held[count:]
        self._before = released[-1:] or self._before
        return released


def before_stop(text: str, strings: Sequence[str]) -> tuple[int, bool]:
    """(how many characters of `text` come before the first stop string, or before what may turn out to be the beginning
    of one; whether one has come). `strings`: at least one, none of them empty."""
    found = [place for string in strings if (place := text.find(string)) >= 0]
    if found:
        return min(found), True
    return min(_possible_start(text, string) for string in strings), False


def _possible_start(text: str, string: str) -> int:
    """Where the longest end of `text` begins that `string` may go on from; len(text) when none does."""
    for start in range(max(0, len(text) - len(string) + 1), len(text)):
        if string.startswith(text[start:]):
            return start
    return len(text)
