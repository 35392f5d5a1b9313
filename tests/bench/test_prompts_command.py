"""edgespec prompts: list, show, fetch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgespec.bench.prompts import downloads
from edgespec.commands.prompts import app
from edgespec.errors import EdgespecError


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGESPEC_CACHE", str(tmp_path))
    return tmp_path


def _run(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_list_names_each_suite_with_a_line() -> None:
    document = json.loads(_run("list", "--json").stdout.splitlines()[-1])
    named = {item["name"]: item for item in document["suites"]}
    assert named["tasks"]["prompts"] == 60 and named["tasks"]["ready"] is True
    assert named["spec-bench"]["ready"] is False
    shown = _run("list").stdout
    for name, item in named.items():
        (line,) = [line for line in shown.splitlines() if line.split()[0] == name]
        assert item["description"] in line
    assert "To fetch: edgespec prompts fetch spec-bench" in shown
    assert "hf:NAME[:SPLIT][@REVISION]" in shown


def test_show_lists_a_suite_and_prints_one_prompt_in_full() -> None:
    shown = _run("show", "tasks-quick").stdout
    assert "tasks-quick: 12 prompts" in shown and "chat-01" in shown and "retrieval-02" in shown
    document = json.loads(_run("show", "tasks-quick", "--json").stdout.splitlines()[-1])
    assert document["count"] == 12 and document["prompts"][0]["chat"] is True
    one = next(prompt for prompt in document["prompts"] if prompt["id"] == "chat-02")
    text = _run("show", "tasks-quick", "--id", "chat-02").stdout
    assert all(turn in text for turn in one["turns"])


def test_show_of_an_unknown_prompt_is_a_sentence() -> None:
    with pytest.raises(EdgespecError, match="'quick' has no prompt 'chat-01'; see: edgespec prompts show quick"):
        _run("show", "quick", "--id", "chat-01")


def test_fetch_says_the_licence_and_how_to_use_it(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def receive(wanted: downloads.Download, part: Path, path: Path, task: object) -> bool:
        part.write_bytes(b'{"turns": ["a"]}')
        return False

    found = downloads.Download("d", "http://127.0.0.1/q", 16, "", "Licence: somebody's.")
    digest = "ab" * 32
    monkeypatch.setattr(downloads, "_receive", receive)
    monkeypatch.setattr(downloads, "sha256_of", lambda _: digest)
    monkeypatch.setitem(downloads.DOWNLOADS, "spec-bench", downloads.Download(**{**vars(found), "sha256": digest}))
    result = _run("fetch", "spec-bench", "--json")
    document = json.loads(result.stdout.splitlines()[-1])
    assert document == {
        "name": "spec-bench",
        "path": str(cache / "prompts" / "spec-bench.jsonl"),
        "sha256": digest,
        "licence": "Licence: somebody's.",
    }
    assert result.output.index("Licence: somebody's.") < result.output.index("--prompts spec-bench")
