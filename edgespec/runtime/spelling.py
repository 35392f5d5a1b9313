"""What each token of a byte-level tokenizer spells, so that streaming need not run the detokenizer at every step.

The detokenizer is a model itself, and runs on the cores that the next step needs: at 2 ms a step it costs several
percent. A table is used only where it gives, for the whole vocabulary at once, what the detokenizer gives.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Decode = Callable[[Sequence[int]], str]


def spelling(folder: Path, decode: Decode) -> Decode | None:
    """A fast `decode` for the tokenizer in `folder`; None when it is not byte-level, or spells otherwise than its file
    says."""
    try:
        found = json.loads((folder / "tokenizer.json").read_bytes())
        table = _table(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if table is None:
        return None

    def spell(ids: Sequence[int]) -> str:
        return b"".join(map(table.__getitem__, ids)).decode("utf-8", errors="replace")

    everything = sorted(table)
    ascii_only = [token for token in everything if table[token].isascii()]
    for ids in (everything, ascii_only):  # the first holds every token; the second no broken character between two
        if spell(ids) != decode(ids):
            return None
    return _Table(table, decode)


class _Table:
    def __init__(self, table: dict[int, bytes], decode: Decode) -> None:
        self._table = table
        self._decode = decode

    def __call__(self, ids: Sequence[int]) -> str:
        try:
            spelled = b"".join(map(self._table.__getitem__, ids))
        except KeyError:  # padding of the vocabulary, which no file spells
            return self._decode(ids)
        return spelled.decode("utf-8", errors="replace")


def _table(tokenizer: dict[str, Any]) -> dict[int, bytes] | None:
    decoder = tokenizer["decoder"]
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    if tokenizer["model"]["type"] != "BPE" or [part["type"] for part in parts] != ["ByteLevel"]:
        return None
    byte_of = _bytes_by_letter()
    table = {
        int(token): bytes(byte_of[letter] for letter in text) for text, token in tokenizer["model"]["vocab"].items()
        if all(letter in byte_of for letter in text)
    }  # fmt: skip
    for added in tokenizer.get("added_tokens", ()):
        table[int(added["id"])] = b"" if added["special"] else str(added["content"]).encode()
    return table


def _bytes_by_letter() -> dict[str, int]:
    """The letters that byte-level tokenizers write for bytes: printable ones for themselves, the others from U+0100
    on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
