"""Suites: what came with edgespec, and files of users, whose mistakes are named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.bench.prompts import Prompt, load_suite, parse, spread
from edgespec.errors import EdgespecError


def test_packaged_suites() -> None:
    code, quick, full = (load_suite(name) for name in ("code", "quick", "full"))
    assert len(quick.prompts) == 8
    assert set(quick.prompts) <= set(code.prompts)
    categories = {prompt.category for prompt in code.prompts}
    assert len({prompt.category for prompt in quick.prompts}) == min(8, len(categories))
    assert len(full.prompts) >= len(code.prompts)
    assert load_suite("quick").sha256 == quick.sha256 != code.sha256


def test_spread_takes_categories_in_turn() -> None:
    prompts = [Prompt(str(i), category, "x") for i, category in enumerate("aaabbc")]
    assert [prompt.id for prompt in spread(prompts, 5)] == ["0", "3", "5", "1", "4"]
    assert len(spread(prompts, 99)) == 6


def test_file_with_prompt_and_turns(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "one"}\n\n{"question_id": 7, "category": "math", "turns": ["two", "three"]}\n', "utf-8")
    suite = load_suite(str(path))
    assert suite.name == "mine.jsonl"
    assert suite.prompts == (Prompt("line-1", "uncategorised", "one"), Prompt("7", "math", "two"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"prompt": "a"}\n{"prompt": ', "line 2 is not JSON"),
        ('{"prompt": "a"}\n[1]', "line 2 is no JSON object"),
        ('{"text": "a"}', "line 1 has no text under 'prompt'"),
        ('{"prompt": 3}', "line 1 has no text"),
        ('{"turns": []}', "line 1 has no text"),
        ('{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}', "line 2: the id 'x' occurs twice"),
        ("\n \n", "holds no prompt"),
    ],
)
def test_bad_lines_are_refused_with_their_number(text: str, complaint: str) -> None:
    with pytest.raises(EdgespecError) as caught:
        parse(text, "mine.jsonl")
    assert complaint in str(caught.value)
    assert "mine.jsonl" in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="choose quick, code, full"):
        load_suite("quickly")
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(EdgespecError, match="is not UTF-8"):
        load_suite(str(path))
