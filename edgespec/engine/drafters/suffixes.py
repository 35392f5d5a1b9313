"""Where the last words stood before: an index over a growing text that answers without rescanning it."""

from __future__ import annotations

from collections.abc import Iterable

_ROOT = 0


class SuffixIndex:
    """For the text so far: the longest suffix, up to `longest` tokens, that also ended earlier, and where it did last.

    A trie of contexts read backwards (depth n: the last n tokens). A node that was met once is a leaf, and grows its
    one child only when it is met again, so text that does not repeat costs one or two nodes a token and a repeat costs
    its length: at most `longest` dictionary steps a token, whatever the text's length.

    Memory: at most `longest` nodes a token, near 2 for ordinary text. Beyond `capacity` tokens the older half is
    forgotten, which costs an insertion a token once more.
    """

    def __init__(self, longest: int = 16, capacity: int = 65_536) -> None:
        self._longest = longest
        self._capacity = max(2, capacity)
        self.clear()

    def clear(self) -> None:
        self.text: list[int] = []
        """What is indexed. Positions are indices into it; they sink by what is forgotten."""
        self.forgotten = 0
        """Tokens that stood before `text` and are no longer indexed."""
        self._children: dict[tuple[int, int], int] = {}
        self._last = [-1]  # by node: where its context ended last
        self._leaf = [False]
        self._match = (0, -1)

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        if len(self.text) >= self._capacity:
            kept, forgotten = self.text[len(self.text) // 2 :], self.forgotten + len(self.text) // 2
            self.clear()
            self.extend(kept)
            self.forgotten = forgotten
        self.text.append(token)
        self._match = self._insert(len(self.text) - 1)

    @property
    def match(self) -> tuple[int, int]:
        """(n, next): the text's last n tokens, n as large as it can be, also stand right before position `next`, for
        the last time before its end; (0, -1) when even the last token is new."""
        n, end = self._match
        return (n, end + 1) if n else (0, -1)

    def _insert(self, end: int) -> tuple[int, int]:
        """Enter the contexts that end at `end`; say the deepest that was there already, and its last end."""
        text, children, last, leaf = self.text, self._children, self._last, self._leaf
        node, depth, found = _ROOT, 0, (0, -1)
        while depth < self._longest and depth <= end:
            key = (node, text[end - depth])
            child = children.get(key)
            if child is None:
                children[key] = len(last)
                last.append(end)
                leaf.append(True)
                break
            node, depth, before = child, depth + 1, last[child]
            found = (depth, before)
            last[node] = end
            if leaf[node]:
                leaf[node] = False
                if before >= depth and depth < self._longest:
                    children[node, text[before - depth]] = len(last)
                    last.append(before)
                    leaf.append(True)
        return found

    def __len__(self) -> int:
        return len(self.text)

    @property
    def nodes(self) -> int:
        return len(self._last)
