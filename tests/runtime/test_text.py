"""Text that grows: whatever the cuts between tokens, the pieces join to the whole, and no half character shows."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec import SpecPipeline
from edgespec.runtime.spelling import spelling
from edgespec.runtime.text import GrowingText


def decode(ids: list[int]) -> str:
    """A byte is a token."""
    return bytes(ids).decode("utf-8", errors="replace")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=120), st.lists(st.integers(1, 9), min_size=1))
def test_pieces_join_to_the_whole_and_never_split_a_character(text: str, cuts: list[int]) -> None:
    text = text.encode("utf-8", errors="replace").decode()
    data = list(text.encode())
    growing, given_out, start = GrowingText(decode), "", 0  # type: ignore[arg-type]
    while start < len(data):
        size = cuts[start % len(cuts)]
        piece = growing.add(data[start : start + size])
        assert "\ufffd" not in piece or "\ufffd" in text
        given_out += piece
        assert text.startswith(given_out)
        start += size
    assert given_out + growing.rest() == text


def test_a_character_split_over_tokens_comes_whole(pipeline: SpecPipeline) -> None:
    words = pipeline._the_words()
    text = "日本語 🙂 naïve"
    ids = words.encode(text)
    assert len(ids) > len(text), "this tokenizer splits its characters"
    growing = GrowingText(words.decode)
    pieces = [growing.add([token]) for token in ids]
    assert "".join(pieces) + growing.rest() == text
    assert "" in pieces and all("\ufffd" not in piece for piece in pieces)


def test_text_that_stays_broken_comes_at_the_end() -> None:
    growing = GrowingText(decode)  # type: ignore[arg-type]
    assert growing.add([0xE6, 0x97]) == ""
    assert growing.rest() == "\ufffd"


def test_a_long_line_is_not_decoded_over_and_over() -> None:
    lengths: list[int] = []

    def watched(ids: list[int]) -> str:
        lengths.append(len(ids))
        return decode(ids)

    growing = GrowingText(watched)  # type: ignore[arg-type]
    assert "".join(growing.add([97]) for _ in range(500)) == "a" * 500
    assert max(lengths) < 40 and all(b <= a + 1 for a, b in pairwise(lengths))


def test_a_byte_level_tokenizer_is_spelled_by_a_table(tiny_pair: Path, pipeline: SpecPipeline) -> None:
    words = pipeline._the_words()
    assert words.spell != words.decode, "the tiny tokenizer is byte-level"
    for text in ("def add(a, b):\n", "naïve 🙂 日本", "\t  x"):
        assert words.spell(words.encode(text)) == text
    assert words.spell([0, 48, 0]) == words.decode([0, 48, 0]) == words.decode([48]), "special tokens do not show"
    assert words.spell([48, 319]) == words.decode([48, 319]), "a row that only pads the vocabulary"


def test_other_tokenizers_are_left_to_the_detokenizer(tiny_pair: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    assert spelling(tmp_path, decode) is None, "there is no file"  # type: ignore[arg-type]
    found = json.loads((tiny_pair / "target" / "tokenizer.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps(found | {"decoder": {"type": "Metaspace"}}), encoding="utf-8")
    assert spelling(tmp_path, decode) is None  # type: ignore[arg-type]
    path.write_text(json.dumps(found), encoding="utf-8")
    assert spelling(tmp_path, lambda ids: "something else") is None, "a table that the detokenizer contradicts"
