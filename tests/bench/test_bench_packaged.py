"""The prompts that come with edgespec: enough of each task, of the promised shape, and none the draft has seen."""

from __future__ import annotations

import json
from collections import Counter
from importlib import resources
from typing import Any

import pytest

from edgespec.bench.prompts.contamination import split
from edgespec.bench.prompts.packaged import PACKAGED, TASKS, Packaged, packaged_suite
from edgespec.bundled import bundled_checkpoints
from edgespec.errors import EdgespecError
from edgespec.training_index import INDEX_FILE, TrainingIndex

FOLDER = resources.files("edgespec.bench") / "prompts"
SIX = {"chat", "code", "summary", "translation", "maths", "retrieval"}


def _records(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_tasks_has_enough_of_each() -> None:
    tasks = packaged_suite("tasks").prompts
    counts = Counter(prompt.category for prompt in tasks)
    assert set(counts) == SIX and min(counts.values()) >= 8 and len(tasks) >= 48
    assert all(prompt.chat for prompt in tasks)
    assert not any(prompt.chat for prompt in packaged_suite("code").prompts)


def test_every_chat_has_two_turns_and_nothing_else_has() -> None:
    assert all((len(p.turns) == 2) == (p.category == "chat") for p in packaged_suite("tasks").prompts)


def test_quick_suites_are_spread() -> None:
    quick, code = packaged_suite("quick"), packaged_suite("code")
    assert len(quick.prompts) == 8 and set(quick.prompts) <= set(code.prompts) and len(code.prompts) == 30
    assert {prompt.category for prompt in quick.prompts} == {prompt.category for prompt in code.prompts}
    tasks_quick = packaged_suite("tasks-quick").prompts
    assert Counter(prompt.category for prompt in tasks_quick) == dict.fromkeys(SIX, 2)
    assert set(tasks_quick) <= set(packaged_suite("tasks").prompts)


def test_full_is_everything_with_ids_of_its_own() -> None:
    full = packaged_suite("full").prompts
    assert len({prompt.id for prompt in full}) == len(full)
    files = {item.name.removesuffix(".jsonl") for item in FOLDER.iterdir() if item.name.endswith(".jsonl")}
    assert files == {"code", *TASKS}
    assert set(full) == {prompt for name in PACKAGED for prompt in packaged_suite(name).prompts}
    assert len(full) == sum(len(_records(file)) for file in files)


def test_passages_are_as_long_as_they_should_be() -> None:
    bounds = {"summary": (150, 450), "retrieval": (300, 650)}
    for prompt in packaged_suite("tasks").prompts:
        if prompt.category in bounds:
            shortest, longest = bounds[prompt.category]
            assert shortest <= len(prompt.text.split()) <= longest, prompt.id


def test_what_a_retrieval_answer_rests_on_stands_in_its_document() -> None:
    for record in _records("retrieval"):
        assert record["reference"] and all(quote in record["turns"][0] for quote in record["reference"]), record["id"]
    assert all(record["reference"] for record in _records("maths"))


def test_translations_are_among_several_languages() -> None:
    text = "".join(prompt.text for prompt in packaged_suite("tasks").prompts if prompt.category == "translation")
    for sign in ("ß", "ñ", "é", "の", "的", "й", "Arabic", "Polish", "Portuguese", "Italian"):
        assert sign in text


def test_no_packaged_prompt_stands_in_the_bundled_drafts_training_text() -> None:
    index = TrainingIndex.read(bundled_checkpoints()[1] / INDEX_FILE)
    told = "this is not the index of the bundled pair's 1,467 documents and 6,982 answers"
    assert index.texts == 1467 + 6982 and index.text_bytes > 18e6, told
    full = packaged_suite("full")
    assert split(full, index) == (full, [])
    assert not [prompt.id for prompt in full.prompts if any(map(index.overlap, prompt.turns))]


def test_their_licence_is_said() -> None:
    note = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in note and "copied from another data set" in " ".join(note.split())
    assert all(f"`{file}.jsonl`" in note for file in ("code", *TASKS))


def test_a_missing_file_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "tasks", Packaged("", ("gone",)))
    with pytest.raises(EdgespecError, match=r"'gone\.jsonl' are missing from this installation"):
        packaged_suite("tasks")
