"""The synthetic tokenizer: exactly as many tokens as asked for, any text read back, live tokens printable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgespec.errors import EdgespecError
from edgespec.plan.tokenizer import END_ID, SMALLEST, synthetic_vocabulary, write_tokenizer

SIZES = (SMALLEST, 2048, 32000)


@pytest.fixture(scope="module", params=SIZES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, synthetic_vocabulary(request.param))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_size_is_exact_and_live_tokens_are_printable_ascii(tokenizer: Tokenizer) -> None:
    size = tokenizer.get_vocab_size()
    assert size in SIZES
    assert sorted(tokenizer.get_vocab().values()) == list(range(size))
    live = synthetic_vocabulary(size).live
    assert END_ID not in live and len(set(live)) == len(live) == size - 257 + 95
    text = tokenizer.decode(live.tolist())
    assert text.isascii() and text.isprintable()


def test_any_text_is_read_and_given_back(tokenizer: Tokenizer) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.text())
    def check(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    check()


@pytest.mark.parametrize("size", [0, SMALLEST - 1])
def test_a_vocabulary_that_is_too_small_is_refused(size: int) -> None:
    with pytest.raises(EdgespecError, match=f"at least {SMALLEST} tokens, not {size}"):
        synthetic_vocabulary(size)


def test_the_largest_published_vocabulary_has_enough_merges() -> None:
    vocabulary = synthetic_vocabulary(256000)
    assert len(vocabulary.tokens) == len(set(vocabulary.tokens)) == 256000
    assert np.array_equal(vocabulary.live[-2:], [255998, 255999])


def test_files_are_read_by_the_vocabulary_check(tmp_path: Path) -> None:
    from edgespec.vocabulary import compare

    for name, size in (("a", 600), ("b", 600), ("c", 601)):
        (tmp_path / name).mkdir()
        write_tokenizer(tmp_path / name, synthetic_vocabulary(size))
    assert compare(tmp_path / "a", tmp_path / "b") == []
    assert any("number of tokens" in line for line in compare(tmp_path / "a", tmp_path / "c"))
