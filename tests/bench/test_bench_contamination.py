"""Prompts out of the draft's training text are left out by name."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgespec.bench.prompts.contamination import THRESHOLD, split, training_index_of
from edgespec.bench.prompts.suite import Prompt, Suite
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, read_manifest, record_files, write_manifest
from edgespec.training_index import INDEX_FILE, TrainingIndex


def _text(seed: int, words: int) -> str:
    draw = random.Random(seed)
    return " ".join("".join(draw.choices("abcdefghij", k=6)) for _ in range(words))


SEEN = _text(0, 400)
INDEX = TrainingIndex.build([SEEN], "made up")


def _suite(**prompts: tuple[str, ...]) -> Suite:
    return Suite("s", tuple(Prompt(name, "c", turns, chat=len(turns) > 1) for name, turns in prompts.items()))


def test_what_was_seen_is_dropped_whichever_turn_it_is() -> None:
    suite = _suite(
        new=(_text(1, 200),),
        seen=(SEEN[200:1200],),
        second=(_text(2, 50), SEEN[:900]),
        quoted=(f"{_text(3, 300)} {SEEN[300:500]}",),  # a run of 200 bytes in 2,300
    )
    kept, dropped = split(suite, INDEX)
    assert dropped == ["seen", "second"]
    assert [prompt.id for prompt in kept.prompts] == ["new", "quoted"] and kept.name == "s"
    assert 0 < INDEX.overlap(suite.prompts[3].text) < THRESHOLD
    assert kept.sha256 != suite.sha256


def test_a_suite_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(EdgespecError, match=r"every prompt of 's' stands in .* \(made up\); choose other prompts"):
        split(_suite(seen=(SEEN,)), INDEX)


def test_the_index_is_found_beside_the_draft(make_pair: Callable[..., Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(make_pair(), tmp_path / "copy"))
    assert training_index_of(Pair.open(root)) is None
    INDEX.write(root / "draft" / INDEX_FILE)
    assert training_index_of(Pair.open(root)) is None, "a file that the manifest does not name is not the pair's"
    manifest = read_manifest(root)
    assert manifest.draft is not None
    draft = manifest.draft.model_copy(update={"files": record_files(root / "draft")})
    write_manifest(root, manifest.model_copy(update={"draft": draft}))
    found = training_index_of(Pair.open(root))
    assert found is not None and found.overlap(SEEN) > 0.9
