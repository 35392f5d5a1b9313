from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgespec.errors import EdgespecError
from edgespec.train import corpus, read_recipe
from edgespec.train.corpus import clean, gather, line_windows


def test_clean_takes_the_licence_off_and_keeps_the_code() -> None:
    text = "#!/usr/bin/env python\n# Copyright 2020 Somebody\n# Licensed under X\n\nimport os\n\n\n\n\n\tx = 1   \r\n"
    assert clean(text) == "import os\n\n\n    x = 1\n"
    assert clean("# a comment that stays\nx = 1") == "# a comment that stays\nx = 1\n"


def _sources(root: Path, files: dict[str, str]) -> dict[str, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {"made": root}


def _module(name: str, functions: int = 20) -> str:
    return "\n".join(
        f"def {name}_{i}(value):\n    total = value + {i}\n    return total * {i}\n" for i in range(functions)
    )


def test_gather_cleans_splits_and_says_what_it_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"module_{i}.py": _module(f"f{i}") for i in range(40)}
    files |= {
        "copy.py": _module("f3"),
        "tests/test_x.py": _module("hidden"),
        "tiny.py": "x = 1\n",
        "table.py": "DATA = [" + "1, " * 2000 + "]\n",
    }
    monkeypatch.setattr(corpus, "source_roots", lambda _: _sources(tmp_path, files))
    found = gather({"made": 10**9}, heldout_share=0.2, seed=0)
    names = {document.name for document in found.train} | {document.name for document in found.heldout}
    assert len(found.train) > 20 and found.heldout
    assert "made/tests/test_x.py" not in names
    assert found.dropped["too short"] == found.dropped["data tables"] == 1
    assert ("made/copy.py" in names) != ("made/module_3.py" in names)
    training = set().union(*(line_windows(document.text) for document in found.train))
    for document in found.heldout:
        windows = line_windows(document.text)
        assert len(windows & training) <= len(windows) / 20


def test_a_source_gives_no_more_than_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"module_{i}.py": _module(f"f{i}") for i in range(40)}
    monkeypatch.setattr(corpus, "source_roots", lambda _: _sources(tmp_path, files))
    assert gather({"made": 5000}, heldout_share=0.1, seed=0).characters() <= 5000


def test_a_source_that_is_not_installed_is_named() -> None:
    with pytest.raises(EdgespecError, match="needs the package 'no_such_package'"):
        gather({"no_such_package": 1}, heldout_share=0.1, seed=0)


def test_the_bench_prompts_share_nothing_with_the_training_text() -> None:
    recipe = read_recipe(None)
    found = gather(recipe.corpus.sources, recipe.corpus.heldout_share, recipe.seed)
    assert found.characters() > 5e6, "too little was gathered for the comparison to mean anything"
    training = set().union(*(line_windows(document.text) for document in found.train))
    lines = (Path(corpus.__file__).parent.parent / "bench" / "prompts" / "code.jsonl").read_text(encoding="utf-8")
    prompts = [json.loads(line)["prompt"] for line in lines.splitlines()]
    assert len(prompts) >= 24
    shared = [prompt[:60] for prompt in prompts if line_windows(prompt) & training]
    assert not shared
