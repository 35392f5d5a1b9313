from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.errors import EdgespecError
from edgespec.train.batches import Position
from edgespec.train.packing import Held, PackedText, TextEncoder, heldout_batches


class Letters:
    """A tokenizer whose tokens are the characters."""

    eos_token_id = 0

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


@dataclass(frozen=True)
class Listed:
    """Documents in the order given."""

    name: str
    texts: tuple[str, ...]

    def documents(self, seed: int, position: Position = None) -> Iterator[tuple[str, Position]]:
        for number in itertools.count(position or 0):
            yield self.texts[number % len(self.texts)], number + 1

    def passes(self, position: Position) -> int:
        return (position - 1) // len(self.texts)


def _packed(
    *texts: tuple[str, ...], weights: tuple[float, ...], length: int, batch: int, held: Held | None = None
) -> Any:
    sources = tuple(Listed(str(number), some) for number, some in enumerate(texts))
    return PackedText(sources, weights, TextEncoder(Letters()), length, batch, seed=0, held=held)


def test_rows_are_the_documents_one_after_another() -> None:
    text = _packed(("abc", "defgh", "i"), weights=(1.0,), length=4, batch=2)
    rows = torch.cat([batch["input_ids"] for batch, _ in itertools.islice(text.read(), 3)])
    joined = "".join(chr(token or ord("|")) for token in rows.flatten())
    assert joined == "abc|defgh|i|abc|defgh|i|abc|defgh|i|"[: len(joined)] and rows.shape == (6, 4)


documents = st.lists(st.text("abcdefgh", min_size=1, max_size=40), min_size=1, max_size=6).map(tuple)


@settings(max_examples=60, deadline=None)
@given(one=documents, two=documents, weight=st.floats(0.2, 5), length=st.integers(2, 12), batch=st.integers(1, 3))
def test_packing_goes_on_from_any_batch(
    one: tuple[str, ...], two: tuple[str, ...], weight: float, length: int, batch: int
) -> None:
    text = _packed(one, two, weights=(1.0, weight), length=length, batch=batch)
    whole = list(itertools.islice(text.read(), 12))
    for begin in range(8):
        position = json.loads(json.dumps(whole[begin][1]))
        for (found, at), (expected, there) in zip(
            itertools.islice(text.read(position), 3), whole[begin + 1 : begin + 4], strict=True
        ):
            assert torch.equal(found["input_ids"], expected["input_ids"]) and at == there


def test_a_mixture_has_its_weights_in_tokens() -> None:
    text = _packed(("a" * 50, "a" * 3), ("b" * 9,), weights=(9.0, 1.0), length=16, batch=4)
    tokens = torch.cat([batch["input_ids"].flatten() for batch, _ in itertools.islice(text.read(), 60)])
    share = float((tokens == ord("b")).sum() / ((tokens == ord("a")).sum() + (tokens == ord("b")).sum()))
    assert share == pytest.approx(0.1, abs=0.02)


def test_held_out_documents_are_never_trained_on() -> None:
    texts = tuple(f"{number:04d}" * 4 for number in range(200))
    held = Held(0.2)
    out = {text for text in texts if held.out(text)}
    assert 20 <= len(out) <= 60
    text = _packed(texts, weights=(1.0,), length=17, batch=4, held=held)
    rows = [row.tolist() for batch, _ in itertools.islice(text.read(), 50) for row in batch["input_ids"]]
    assert {"".join(map(chr, row[:-1])) for row in rows} == set(texts) - out
    chosen = heldout_batches(text, held, rows=8)
    assert {"".join(map(chr, row[:-1])) for batch in chosen for row in batch["input_ids"].tolist()} <= out
    assert sum(len(batch["input_ids"]) for batch in chosen) == 8


def test_a_source_that_is_all_held_out_is_a_sentence() -> None:
    text = _packed(("abc",), weights=(1.0,), length=4, batch=1, held=Held(1.0))
    with pytest.raises(EdgespecError, match="every document of the source '0' is held out"):
        next(text.read())


def test_a_tokenizer_without_eos_is_a_sentence() -> None:
    tokenizer = Letters()
    tokenizer.eos_token_id = None  # type: ignore[assignment]
    with pytest.raises(EdgespecError, match="names no eos token"):
        TextEncoder(tokenizer)
