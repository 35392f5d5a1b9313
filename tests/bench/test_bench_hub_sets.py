"""Datasets as prompts: read from folders on this disk, and the hub's answers scripted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.bench.prompts import hub_sets, load_suite
from edgespec.bench.prompts.hub_sets import HUB_SETS, hub_suite
from edgespec.bench.prompts.suite import Prompt
from edgespec.errors import EdgespecError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Fake:
    """The datasets library: `load_dataset` returns what is scripted and remembers how it was asked."""

    def __init__(self, records: list[dict[str, Any]] | Exception) -> None:
        self.records, self.asked, self.bars = records, (), True

    def load_dataset(self, name: str, config: str | None, *, split: str, revision: str | None) -> Any:
        self.asked = (name, config, split, revision)
        assert not self.bars
        if isinstance(self.records, Exception):
            raise self.records
        return Records(self.records)

    def is_progress_bar_enabled(self) -> bool:
        return self.bars

    def disable_progress_bars(self) -> None:
        self.bars = False

    def enable_progress_bars(self) -> None:
        self.bars = True


class Records(list[dict[str, Any]]):
    @property
    def column_names(self) -> list[str]:
        return list(self[0]) if self else []


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Any:
    def script(*records: dict[str, Any], error: Exception | None = None) -> Fake:
        fake = Fake(error or list(records))
        monkeypatch.setitem(sys.modules, "datasets", fake)
        return fake

    return script


def test_well_known_sets_are_read_by_their_columns_at_their_commit(scripted: Any) -> None:
    fake = scripted({"task_id": "HumanEval/0", "prompt": "def f(x):\n", "canonical_solution": "    return x\n"})
    suite = load_suite("hf:openai/openai_humaneval")
    revision = HUB_SETS["openai/openai_humaneval"].revision
    assert fake.asked == ("openai/openai_humaneval", None, "test", revision) and fake.bars
    assert suite.name == f"hf:openai/openai_humaneval:test@{revision}"
    assert suite.prompts == (Prompt("HumanEval/0", "code", ("def f(x):\n",), chat=False),)

    fake = scripted({"task_id": 11, "text": "Write f.", "code": "", "test_list": ["assert f(1)", "assert f(2)"]})
    (prompt,) = load_suite("hf:google-research-datasets/mbpp").prompts
    assert fake.asked[1:3] == ("full", "test[:100]")
    assert prompt == Prompt(
        "11", "code", ("Write f.\nThe code must pass these tests:\nassert f(1)\nassert f(2)",), chat=True
    )

    fake = scripted({"question": "How many?", "answer": "#### 3"}, {"question": "And {now}?", "answer": "#### 4"})
    suite = load_suite("hf:openai/gsm8k:socratic/train[:2]")
    assert fake.asked[:3] == ("openai/gsm8k", "socratic", "train[:2]")
    assert suite.name.startswith("hf:openai/gsm8k:socratic/train[:2]@")
    assert [(p.id, p.category, p.text) for p in suite.prompts] == [
        ("record-0", "maths", "How many?"),
        ("record-1", "maths", "And {now}?"),
    ]

    scripted({"prompt_id": 5, "category": "writing", "prompt": ["First.", "Second."], "reference": []})
    assert load_suite("hf:HuggingFaceH4/mt_bench_prompts").prompts == (
        Prompt("5", "writing", ("First.", "Second."), chat=True),
    )


def test_a_well_known_set_with_other_columns_is_refused(scripted: Any) -> None:
    scripted({"text": "x"})
    with pytest.raises(EdgespecError, match=r"gsm8k:main/test\[:100\]@.*', record 0 has no column 'question'"):
        hub_suite("hf:openai/gsm8k")


@pytest.mark.parametrize(
    ("record", "turns", "chat"),
    [
        ({"prompt": "def f"}, ("def f",), False),
        ({"prompt": ["a", "b"]}, ("a", "b"), True),
        ({"turns": ["a", "b"], "prompt": "x"}, ("a", "b"), True),
        ({"question": "why?", "answer": "so"}, ("why?",), True),
        ({"instruction": "do it", "output": "done"}, ("do it",), True),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, ("u",), True),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            ("a",),
            True,
        ),
    ],
)
def test_other_sets_are_read_by_the_names_of_their_columns(
    scripted: Any, record: dict[str, Any], turns: tuple[str, ...], chat: bool
) -> None:
    fake = scripted(record | {"id": 7, "category": "c"})
    suite = hub_suite(f"hf:some/set:train@{COMMIT}")
    assert fake.asked == ("some/set", None, "train", COMMIT)
    assert suite.prompts == (Prompt("7", "c", turns, chat),)


def test_a_branch_or_nothing_is_looked_up_to_a_commit(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    wanted: list[str | None] = []

    def dataset_info(_self: HfApi, _name: str, *, revision: str | None, timeout: float) -> Any:
        wanted.append(revision)
        return SimpleNamespace(sha=COMMIT)

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    fake = scripted({"prompt": "x"})
    assert hub_suite("hf:some/set").name == f"hf:some/set:test@{COMMIT}"
    assert hub_suite("hf:some/set:test@main").name == f"hf:some/set:test@{COMMIT}"
    assert wanted == [None, "main"] and fake.asked[3] == COMMIT


def test_offline_says_how_to_do_without(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def dataset_info(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "dataset_info", dataset_info)
    scripted({"prompt": "x"})
    with pytest.raises(EdgespecError, match=r"cannot be looked up \(no route to host\).*hf:some/set@COMMIT"):
        hub_suite("hf:some/set")
    scripted(error=ConnectionError("Couldn't reach the hub"))
    with pytest.raises(EdgespecError, match=r"'openai/gsm8k', split 'test.*cannot be read: Couldn't reach the hub;"):
        hub_suite("hf:openai/gsm8k")


def test_a_missing_library_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EdgespecError, match=r'need the package .datasets.*pip install "edgespec\[prompts\]"'):
        hub_suite("hf:openai/gsm8k")


@pytest.mark.parametrize("reference", ["hf:", "hf::test", "hf:a/b:c:d", "hf:a/b@", "hf:a/b@x/y"])
def test_what_cannot_be_a_reference_is_refused(reference: str) -> None:
    with pytest.raises(EdgespecError, match="write hf:NAME, hf:NAME:SPLIT or hf:NAME:SPLIT@REVISION"):
        hub_suite(reference)


def test_a_drive_letter_is_no_split() -> None:
    match = hub_sets._REFERENCE.fullmatch(r"C:\data\set:train[:5]")
    assert match is not None and (match["name"], match["split"]) == (r"C:\data\set", "train[:5]")


def test_records_without_a_prompt_are_refused(scripted: Any) -> None:
    scripted({"label": 3, "sentence": "x"})
    with pytest.raises(EdgespecError, match=r"record 0 has no text in a column.*\(its columns: label, sentence; known"):
        hub_suite(f"hf:some/set@{COMMIT}")
    scripted()
    with pytest.raises(EdgespecError, match="holds no record"):
        hub_suite(f"hf:some/set@{COMMIT}")
    scripted({"id": 1, "prompt": "a"}, {"id": 1, "prompt": "b"})
    with pytest.raises(EdgespecError, match="record 1: the id '1' occurs twice"):
        hub_suite(f"hf:some/set@{COMMIT}")


def test_a_folder_is_read_by_the_real_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = [{"id": f"q{i}", "category": "c", "turns": [f"First {i}?", "And then?"]} for i in range(5)]
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    suite = load_suite(f"hf:{folder}:test[1:3]")
    assert suite.name == "hf:mine:test[1:3]"
    assert suite.prompts == tuple(Prompt(f"q{i}", "c", (f"First {i}?", "And then?"), chat=True) for i in (1, 2))
    with pytest.raises(EdgespecError, match="split 'train', cannot be read"):
        hub_suite(f"hf:{folder}:train")
    with pytest.raises(EdgespecError, match="is a folder, and a revision names a commit"):
        hub_suite(f"hf:{folder}:test@{COMMIT}")
