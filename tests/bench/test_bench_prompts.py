"""What --prompts may name, JSON lines, and files of users, whose mistakes are named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgespec.bench.prompts import Prompt, Suite, choices, load_suite, parse, spread
from edgespec.errors import EdgespecError


def test_spread_takes_categories_in_turn() -> None:
    prompts = [Prompt(str(i), category, ("x",), chat=False) for i, category in enumerate("aaabbc")]
    assert [prompt.id for prompt in spread(prompts, 5)] == ["0", "3", "5", "1", "4"]
    assert len(spread(prompts, 99)) == 6 and spread([], 3) == ()


def test_a_prompt_is_a_text_and_turns_are_a_chat(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "one"}\n\n{"question_id": 7, "category": "math", "turns": ["two", "three"]}\n', "utf-8")
    suite = load_suite(str(path))
    assert suite.name == "mine.jsonl"
    assert suite.prompts == (
        Prompt("line-1", "uncategorised", ("one",), chat=False),
        Prompt("7", "math", ("two", "three"), chat=True),
    )
    assert suite.prompts[1].text == "two"


def test_spec_bench_lines_load_as_they_are() -> None:
    lines = (
        '{"question_id": 81, "category": "writing", "turns": ["Compose a post.", "Rewrite it."]}\n'
        '{"question_id": 161, "category": "translation", "turns": ["Translate it."], "reference": ["Done."]}\n'
    )
    assert [(p.id, p.category, len(p.turns), p.chat) for p in parse(lines, "question.jsonl")] == [
        ("81", "writing", 2, True),
        ("161", "translation", 1, True),
    ]


def test_the_hash_covers_every_turn_and_the_kind() -> None:
    def of(*turns: str, chat: bool = True) -> str:
        return Suite("s", (Prompt("1", "c", turns, chat),)).sha256

    assert len({of("a"), of("a", "b"), of("a", "c"), of("a", chat=False)}) == 4
    assert of("a", "b") == of("a", "b")


def test_the_code_suite_keeps_the_hash_of_earlier_reports() -> None:
    assert load_suite("code").sha256.startswith("70be395ed030097f")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"prompt": "a"}\n{"prompt": ', "line 2 is not JSON"),
        ('{"prompt": "a"}\n[1]', "line 2 is no JSON object"),
        ('{"text": "a"}', "line 1 has no text under 'prompt' and no list under 'turns'"),
        ('{"prompt": 3}', "line 1 has no text under 'prompt'"),
        ('{"prompt": " "}', "line 1 has no text under 'prompt'"),
        ('{"turns": []}', "line 1 has under 'turns' something else"),
        ('{"turns": "a"}', "line 1 has under 'turns' something else"),
        ('{"turns": ["a", ""]}', "line 1 has under 'turns' something else"),
        ('{"prompt": "a", "turns": ["a"]}', "line 1 has both 'prompt' (a text to continue) and 'turns'"),
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
    with pytest.raises(EdgespecError, match="choose quick, code, tasks-quick, tasks, full, spec-bench, hf:NAME or a"):
        load_suite("quickly")
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(EdgespecError, match="is not UTF-8"):
        load_suite(str(path))


def test_every_choice_has_a_description_of_one_line() -> None:
    listed = {choice.name: choice for choice in choices()}
    assert {"quick", "code", "tasks", "tasks-quick", "full", "spec-bench", "hf:openai/gsm8k"} <= set(listed)
    for choice in listed.values():
        assert 20 < len(choice.description) < 140 and "\n" not in choice.description
    for name in ("quick", "code", "tasks", "tasks-quick", "full"):
        assert listed[name].prompts == len(load_suite(name).prompts) and listed[name].ready
