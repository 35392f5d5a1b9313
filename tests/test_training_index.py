"""The index finds what it promises to find, nothing else, and survives a file."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.errors import EdgespecError
from edgespec.training_index import INDEX_FILE, STRIDE, WINDOW, TrainingIndex

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def _text(seed: int, length: int) -> str:
    return "".join(random.Random(seed).choices(LETTERS, k=length))


CORPUS = [_text(seed, 3_000 + 137 * seed) for seed in range(12)]
INDEX = TrainingIndex.build(CORPUS, "made up")


@settings(max_examples=60, deadline=None)
@given(
    document=st.integers(0, len(CORPUS) - 1),
    start=st.integers(0, 2_000),
    before=st.integers(0, 300),
    extra=st.integers(0, 400),
    after=st.integers(0, 300),
)
def test_a_run_of_the_certain_length_is_always_found(
    document: int, start: int, before: int, extra: int, after: int
) -> None:
    length = INDEX.certain_bytes + extra
    run = CORPUS[document][start : start + length]
    prompt = _text(1_000 + before, before) + run + _text(2_000 + after, after)
    share = INDEX.overlap(prompt)
    assert share >= WINDOW / len(prompt)
    assert share >= (length - 2 * (STRIDE - 1)) / len(prompt)
    assert share <= (length + 2 * STRIDE) / len(prompt)


def test_a_shorter_run_is_found_as_often_as_said() -> None:
    """Null: a run of n bytes holds a kept window with chance (n - window + 1) / stride = 1/2 here. Over 400 random
    places the count is binomial; outside 160..240 (four deviations) the test errs once in 16,000 right programs, and
    the seed is fixed."""
    length = WINDOW + STRIDE // 2 - 1
    draw = random.Random(0)
    found = 0
    for _ in range(400):
        text = draw.choice(CORPUS)
        start = draw.randint(0, len(text) - length)
        found += INDEX.overlap(text[start : start + length]) > 0
    assert 160 <= found <= 240


def test_nothing_below_a_window_and_nothing_unseen_is_found() -> None:
    unseen = [_text(10_000 + seed, 2_000) for seed in range(50)]
    assert [INDEX.overlap(text) for text in unseen] == [0.0] * 50
    pieces = [CORPUS[0][start : start + WINDOW - 1] for start in range(0, 2_900, WINDOW)]
    assert INDEX.overlap("|".join(pieces)) == 0.0
    assert INDEX.overlap(CORPUS[0][: WINDOW - 1]) == 0.0 and INDEX.overlap("") == 0.0


def test_white_space_makes_no_difference_and_a_whole_copy_counts_nearly_whole() -> None:
    source = " ".join(_text(seed, 7) for seed in range(200))
    index = TrainingIndex.build([source], "words")
    assert index.overlap(source.replace(" ", "\n\n    ")) == index.overlap(source) > 0.9
    assert index.overlap(source.upper()) == 0.0


def test_length_is_counted_in_bytes_of_utf8() -> None:
    japanese = "".join(chr(0x3041 + ord(letter) % 80 + 3 * (i % 17)) for i, letter in enumerate(_text(3, 400)))
    index = TrainingIndex.build([japanese], "kana")
    assert index.text_bytes == 3 * len(japanese)
    assert index.overlap(japanese[100 : 100 + index.certain_bytes // 3 + 1]) > 0
    assert index.overlap("\ud800" + japanese) > 0.5  # a lone surrogate, as broken JSON gives it


def test_an_index_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / INDEX_FILE
    INDEX.write(path)
    again = TrainingIndex.read(path)
    assert np.array_equal(again.hashes, INDEX.hashes)
    assert (again.bits, again.window, again.stride, again.texts, again.text_bytes, again.sources) == (
        *(INDEX.bits, WINDOW, STRIDE, 12, sum(map(len, CORPUS)), "made up"),
    )
    assert again.overlap(CORPUS[5][:500]) == INDEX.overlap(CORPUS[5][:500]) > 0.5
    assert [path.name for path in tmp_path.iterdir()] == [INDEX_FILE]
    first = path.read_bytes()
    INDEX.write(path)
    assert path.read_bytes() == first


def test_size_is_what_the_docstring_says(tmp_path: Path) -> None:
    texts = [_text(seed, 120_000) for seed in range(100, 125)]
    index = TrainingIndex.build(texts, "")
    index.write(tmp_path / INDEX_FILE)
    assert (tmp_path / INDEX_FILE).stat().st_size < 0.025 * sum(map(len, texts))
    assert index.bits == 15 + 20  # 25,000 windows


def test_batches_do_not_change_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgespec.training_index._BATCH_BYTES", 1)
    assert np.array_equal(TrainingIndex.build(CORPUS, "").hashes, INDEX.hashes)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    TrainingIndex.build(["short"], "").write(tmp_path / INDEX_FILE)
    index = TrainingIndex.read(tmp_path / INDEX_FILE)
    assert index.texts == 1 and index.overlap(CORPUS[0]) == 0.0


def test_files_that_are_no_index_are_refused(tmp_path: Path) -> None:
    path = tmp_path / INDEX_FILE
    with pytest.raises(EdgespecError, match="there is no training index"):
        TrainingIndex.read(path)
    INDEX.write(path)
    whole = path.read_bytes()
    for damaged in (b"", b"PK nonsense", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(EdgespecError, match="is damaged"):
            TrainingIndex.read(path)
    np.savez(path, schema=99)
    with pytest.raises(EdgespecError, match="schema 99"):
        TrainingIndex.read(path)
