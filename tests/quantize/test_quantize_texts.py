"""Text to windows: of stated length, bounded, drawn by a seed, begun as the tokenizer begins a text; and files that
cannot serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.errors import EdgespecError
from edgespec.quantize import Ask, texts
from edgespec.quantize.texts import Tokens, Windows, read_texts, windows


class Letters:
    """A tokenizer of one token a character, that begins texts with token 0. Its chat template brings a 7."""

    start = (0,)

    def __init__(self, template: str | None = chr(7)) -> None:
        self._template = template

    def read(self, ask: Ask) -> list[int]:
        ids = [ord(letter) for letter in ask.text]
        if not ids:
            return []
        return [ord(self._template), *ids] if ask.chat and self._template is not None else [0, *ids]


def cut(
    asks: list[Ask], count: int, length: int, seed: int = 0, joined: bool = False, tokens: Letters | None = None
) -> Windows:
    found = windows(tokens or Letters(), asks, count, length, seed, joined)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_long_text_is_cut_and_each_window_begins_like_a_text() -> None:
    text = "".join(chr(500 + n) for n in range(250))
    found = cut([Ask(text, chat=False)], count=10, length=101)
    assert sorted(found.ids) == [
        (0, *range(500, 600)),
        (0, *range(600, 700)),
        (0, *range(700, 750)),
    ]
    assert found.described == "3 windows, 253 tokens, 51 to 101 each"


def test_what_is_used_is_bounded_and_drawn_by_the_seed() -> None:
    asks = [Ask(chr(500 + n) * 40, chat=False) for n in range(100)]
    found = cut(asks, count=3, length=64, seed=1)
    assert found.described == "3 of 48 windows, 123 tokens, 41 to 41 each"  # sixteen times as many are looked at
    assert found == cut(asks, count=3, length=64, seed=1)
    assert found.ids != cut(asks, count=3, length=64, seed=2).ids
    assert {window[1] for window in found.ids} != {500, 501, 502}


def test_short_texts_are_joined_where_that_is_asked() -> None:
    asks = [Ask("a" * 30, chat=False), Ask("a" * 30, chat=False), Ask("a" * 50, chat=False)]
    assert [len(window) for window in cut(asks, count=9, length=51, joined=True).ids] == [51, 51]
    assert sorted(len(window) for window in cut(asks, count=9, length=64).ids) == [51]  # 31 are too few beside it
    assert [len(window) for window in cut([Ask("abc", False)], count=9, length=64, joined=True).ids] == [4]


def test_joined_texts_begin_as_they_begin_alone_and_so_does_every_window() -> None:
    asks = [Ask("a" * 30, chat=False)] * 4
    found = cut(asks, count=9, length=41, joined=True).ids
    a = [ord("a")]
    assert set(found) == {(0, *a * 30, 0, *a * 9), (0, *a * 21, 0, *a * 18), (0, *a * 12, 0, *a * 27)}
    found = cut([Ask("a" * 30, chat=True)] * 2, count=9, length=31, joined=True).ids
    assert set(found) == {(0, 7, *a * 29), (0, *a, 7, *a * 28)}


def test_a_chat_turn_stays_in_its_template() -> None:
    (window,) = cut([Ask("x" * 90 + "y" * 10, chat=True)], count=4, length=40).ids
    assert window == (*[ord("x")] * 30, *[ord("y")] * 10)


@pytest.mark.parametrize("template", [None, chr(0)], ids=["no template", "a template that begins a text itself"])
def test_a_chat_turn_begins_like_a_text_whether_it_is_cut_or_not(template: str | None) -> None:
    tokens = Letters(template)
    long, short = Ask("x" * 90 + "y" * 10, chat=True), Ask("x" * 33, chat=True)
    found = cut([long, short], count=4, length=40, tokens=tokens).ids
    assert set(found) == {(0, *[ord("x")] * 29, *[ord("y")] * 10), (0, *[ord("x")] * 33)}


def test_text_of_no_tokens_gives_nothing() -> None:
    assert windows(Letters(), [Ask("", chat=False)], 4, 64, 0) is None  # type: ignore[arg-type]
    assert windows(Letters(), [], 4, 64, 0) is None  # type: ignore[arg-type]


def test_long_text_is_tokenized_in_pieces_that_end_with_lines(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"for i in range({n}):\n    print(i, {n})\n" for n in range(40)]
    tokens = Tokens(tiny_pair / "target")
    whole = tokens.read(Ask("".join(lines), chat=False))
    asked: list[str] = []
    encode = tokens._words.encode
    monkeypatch.setattr(
        tokens._words, "encode", lambda piece, special: (asked.append(piece), encode(piece, special=special))[1]
    )
    monkeypatch.setattr(texts, "_PIECE", 100)
    in_pieces = tokens.read(Ask("".join(lines), chat=False))
    assert "".join(asked) == "".join(lines)
    assert max(map(len, asked)) <= 100
    assert all(piece.endswith("\n") for piece in asked[:-1])
    assert tokens._words.decode(in_pieces) == tokens._words.decode(whole)
    assert len(whole) <= len(in_pieces) <= len(whole) + 3 * len(asked)  # only seams differ
    assert texts._pieces("x" * 250) == ["x" * 100, "x" * 100, "x" * 50]


def test_json_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "one"}\n\n{"prompt": "two"}\n{"turns": ["three", "four"]}\n')
    assert read_texts(path) == [Ask("one", False), Ask("two", False), Ask("three", True)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b'{"text": "x"}\n{', r"'.*a.jsonl', line 2 is not JSON: .* at column"),
        ("a.jsonl", b'{"words": 1}', "line 1 has no text under 'text' or 'prompt' and no list under 'turns'; every"),
        ("a.jsonl", b"[1]", "line 1 has no text under 'text' or 'prompt'"),
        ("a.jsonl", b'{"turns": []}', "line 1 has no text under 'text' or 'prompt'"),
        ("a.txt", b"  \n", r"'.*a.txt' holds no text$"),
        ("a.txt", b"ab\xff", r"is not UTF-8 text \(byte 2\); save it as UTF-8"),
        ("a.txt", b"x" * 2000, r"has 0 MB, and 0 are enough to draw some thousand tokens from; give a part of it"),
    ],
)
def test_a_file_that_cannot_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, says: str
) -> None:
    monkeypatch.setattr(texts, "LARGEST_FILE", 1000)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EdgespecError, match=says):
        read_texts(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=r"there is no file '.*nowhere.txt' with text; give a text or .jsonl file"):
        read_texts(tmp_path / "nowhere.txt")
