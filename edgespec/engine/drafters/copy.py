"""Drafters that copy: what followed the last words before probably follows them again. Nothing is computed.

- prompt lookup (Saxena 2023; Yang et al. 2023, LLMA): the longest of the last few words that stood before, any length;
- CopySpec (Dumitru et al. 2025): only a match of several tokens counts, and copying goes on from the same place as long
  as it holds;
- input-guided aggressive decoding (Sun et al. 2021): the answer is an edit of a known text, so walk along that text.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from ..proposal import NOTHING, Proposal, Verified, chain
from .suffixes import SuffixIndex

WINDOW = 8
"""Tokens behind a broken-off copy in which the text is expected to fall in step again."""


class CopyDrafter:
    """Copies from the prompt and the answer so far, from the last place where the longest match stands.

    shortest: tokens that must match before anything is proposed. longest: beyond this many, all matches are equal, and
    the last one counts; a copy under way keeps its place however long it has become.
    When a copied token is refused, its place is remembered for the next few tokens: as soon as the text meets a token
    near behind it, copying goes on there, without waiting for `shortest` tokens to match again.
    """

    def __init__(self, *, shortest: int = 4, longest: int = 16, window: int = WINDOW, name: str = "copy") -> None:
        self.name = name
        self._shortest = shortest
        self._window = window
        self._index = SuffixIndex(longest)
        self._forget()

    @property
    def grade(self) -> int:
        """Tokens that matched before the place last copied from: how far the copy can be trusted."""
        return self._run

    def _forget(self) -> None:
        self._from: int | None = None  # position, counted from the sequence's start, of the next token to copy
        self._run = 0  # tokens before it that match the text's end
        self._broken: int | None = None  # position of the token that was refused last
        self._since = 0  # tokens emitted since

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._forget()
        self._index.clear()
        self._index.extend(prompt_ids)

    def propose(self, budget: int) -> Proposal:
        if budget < 1:
            return NOTHING
        matched, place = self._index.match
        if matched >= self._shortest and matched >= self._run:
            self._from, self._run, self._broken = place + self._index.forgotten, matched, None
        elif self._from is None:
            self._resume()
        if self._from is None:
            return NOTHING
        text, start = self._index.text, self._from - self._index.forgotten
        tokens = text[start : start + budget]
        while len(tokens) < budget:  # the match reaches the text's end: what repeats goes on repeating
            tokens.append(tokens[len(tokens) - (len(text) - start)])
        return chain(tokens)

    def observe(self, verified: Verified) -> None:
        for token in verified.emitted:
            self._follow(token)
            self._index.append(token)

    def _follow(self, token: int) -> None:
        """Move along the source while the text agrees with it."""
        self._since += 1
        if self._from is not None and self._from < self._index.forgotten:
            self._forget()
        if self._from is None:
            return
        if self._index.text[self._from - self._index.forgotten] == token:
            self._from += 1
            self._run += 1
        else:
            self._broken, self._since = self._from, 0
            self._from, self._run = None, 0

    def _resume(self) -> None:
        """Fall in step again at the nearest token behind the broken place that the text has just met."""
        if self._broken is None or self._since >= self._window or self._broken < self._index.forgotten:
            return
        text = self._index.text
        start = self._broken - self._index.forgotten
        for place in range(start, min(start + self._window, len(text) - 1)):
            if text[place] == text[-1]:
                self._from, self._run = place + 1 + self._index.forgotten, 1
                return

    def close(self) -> None:
        self._forget()
        self._index.clear()


def lookup_drafter() -> CopyDrafter:
    """Prompt lookup: any match counts, the longest of up to three tokens; a refused copy's place is not remembered."""
    return CopyDrafter(shortest=1, longest=3, window=0, name="lookup")


class GuidedDrafter:
    """Walks along a known text that the answer is expected to repeat with changes: the prompt, or `guide` when given
    (the file to be edited, a predicted answer).

    In step, it proposes what comes next in the guide. Out of step, it looks for the answer's last tokens in the guide:
    three or two of them anywhere, the first place at or behind where it was last; a single one only within a few tokens
    of there. With a `guide` it starts in step at its first token, without one as soon as the answer meets the prompt.
    """

    name = "guided"

    def __init__(self, guide: Sequence[int] | None = None, *, window: int = WINDOW) -> None:
        self._given = None if guide is None else list(guide)
        self._window = window
        self.begin(())

    @property
    def grade(self) -> int:
        """Tokens walked in step."""
        return self._run

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._guide = list(prompt_ids) if self._given is None else self._given
        self._places: dict[tuple[int, ...], list[int]] = {}  # the tokens before a position -> such positions, rising
        for n in (2, 3):
            for end in range(n, len(self._guide)):
                self._places.setdefault(tuple(self._guide[end - n : end]), []).append(end)
        self._next: int | None = None if self._given is None else 0
        self._was = 0  # where the walk broke off
        self._run = 0
        self._recent: list[int] = []

    def propose(self, budget: int) -> Proposal:
        if budget < 1:
            return NOTHING
        if self._next is None:
            self._find()
        if self._next is None:
            return NOTHING
        tokens = self._guide[self._next : self._next + budget]
        return chain(tokens) if tokens else NOTHING

    def observe(self, verified: Verified) -> None:
        for token in verified.emitted:
            self._recent = [*self._recent[-2:], token]
            if self._next is None:
                continue
            if self._next < len(self._guide) and self._guide[self._next] == token:
                self._next += 1
                self._run += 1
            else:
                self._was, self._next, self._run = self._next, None, 0

    def _find(self) -> None:
        for n in (3, 2):
            places = self._places.get(tuple(self._recent[-n:]), []) if len(self._recent) >= n else []
            if places:
                behind = bisect_left(places, self._was)
                self._next, self._run = places[min(behind, len(places) - 1)], n
                return
        if self._recent:
            for place in range(self._was, min(self._was + self._window, len(self._guide) - 1)):
                if self._guide[place] == self._recent[-1]:
                    self._next, self._run = place + 1, 1
                    return

    def close(self) -> None:
        self._places.clear()
