"""Documents to rows of equal length: tokenized, mixed by weight, each closed by end-of-text, cut without padding.

Which source gives the next document follows from the tokens that each has given: the one furthest behind its weight.
So a mixture is exact in tokens and needs no dice. A position is the documents' positions before the document that the
last row ends in, and how many of its tokens are used up.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from edgespec.errors import EdgespecError

from .batches import Batch, Position
from .sources import Source

_MOST_DOCUMENTS = 64
_MOST_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Held:
    """Which documents are held out: a share of them, by the hash of their text, wherever and in whatever order they
    are found. Repeats of a text fall on the same side."""

    share: float = 0.01

    def out(self, text: str) -> bool:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") < self.share * 2**64


class TextEncoder:
    """Text to ids with a transformers tokenizer, what it puts around a text included, and end-of-text behind it."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise EdgespecError(
                "the tokenizer names no eos token, and that is what parts documents; set eos_token in its config"
            )
        self._tokenizer = tokenizer
        self._end = tokenizer.eos_token_id

    def largest_id(self) -> int:
        return max(self._tokenizer.get_vocab().values())

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(list(texts), return_attention_mask=False, verbose=False)["input_ids"]
        return [ids if ids and ids[-1] == self._end else [*ids, self._end] for ids in found]


@dataclass(frozen=True)
class PackedText:
    """Batches of packed rows: `input_ids` i64 [batch, length]. Endless, and a pure function of the position.

    weights: share of the tokens, relative; held: documents left out, None for none.
    """

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    encode: TextEncoder
    length: int
    batch: int
    seed: int
    held: Held | None = None

    def read(self, position: Position = None) -> Iterator[tuple[Batch, Position]]:
        count = len(self.sources)
        state = position or {"sources": [None] * count, "given": [0] * count, "skip": 0}
        behind, given, used = list(state["sources"]), list(state["given"]), state["skip"]
        readers = [self._encoded(i, behind[i]) for i in range(count)]
        buffer: list[int] = []  # less than a row, the end of the last document
        rows: list[list[int]] = []
        while True:
            chosen = min(range(count), key=lambda i: given[i] / self.weights[i])
            before = {"sources": list(behind), "given": list(given)}
            ids, behind[chosen] = next(readers[chosen])
            given[chosen] += len(ids)
            older = len(buffer) - used  # where this document begins, in the buffer
            buffer += ids[used:]
            cut = 0
            while len(buffer) - cut >= self.length:
                rows.append(buffer[cut : cut + self.length])
                cut += self.length
                if len(rows) == self.batch:
                    yield {"input_ids": torch.tensor(rows)}, {**before, "skip": cut - older}
                    rows = []
            buffer = buffer[cut:]
            used = 0

    def _encoded(self, number: int, position: Position) -> Iterator[tuple[list[int], Position]]:
        """Token ids of a source's documents, tokenized a few at a time."""
        documents = self.sources[number].documents(self.seed, position)
        if self.held:
            documents = _kept(documents, self.held, self.sources[number])
        while True:
            some = list(_some(documents))
            for ids, (_, after) in zip(self.encode([text for text, _ in some]), some, strict=True):
                yield ids, after


def heldout_batches(text: PackedText, held: Held, rows: int) -> list[Batch]:
    """About `rows` rows of held-out documents, of each source by its weight, in batches of at most `text.batch`.

    None when the sources have too few. Looks through one pass at most, or 4 * `rows / held.share` rows' worth of text.
    """
    quota = sum(text.weights)
    found: list[list[int]] = []
    for source, weight in zip(text.sources, text.weights, strict=True):
        wanted = max(1, round(rows * weight / quota)) * text.length
        characters = 0
        ids: list[int] = []
        for document, after in source.documents(text.seed):
            characters += len(document)
            if source.passes(after) or len(ids) >= wanted or characters > 16 * wanted / held.share:
                break
            if held.out(document):
                ids += text.encode([document])[0]
        found += [ids[i : i + text.length] for i in range(0, min(len(ids), wanted) - text.length + 1, text.length)]
    whole = len(found) // text.batch * text.batch or len(found)
    return [{"input_ids": torch.tensor(found[i : i + text.batch])} for i in range(0, whole, text.batch)]


def _kept(documents: Iterator[tuple[str, Position]], held: Held, source: Source) -> Iterator[tuple[str, Position]]:
    begun: int | None = None  # the pass of the last document that was kept, or of the first one looked at
    for text, after in documents:
        number = source.passes(after)
        begun = number if begun is None else begun
        if not held.out(text):
            begun = number
            yield text, after
        elif number > begun + 1:
            raise EdgespecError(
                f"every document of the source '{source.name}' is held out; give more documents, or hold out less"
            )


def _some(documents: Iterator[tuple[str, Position]]) -> Iterator[tuple[str, Position]]:
    characters = 0
    for text, after in itertools.islice(documents, _MOST_DOCUMENTS):
        yield text, after
        characters += len(text)
        if characters > _MOST_CHARACTERS:
            return
