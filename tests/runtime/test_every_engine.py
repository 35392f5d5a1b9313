"""What is documented of every way to answer, held for native ones and openvino-genai's, with a draft and without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgespec import EdgespecError, SpecPipeline
from edgespec.runtime import Piece, Result
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"
SPLIT = "日本語 🙂 naïve 日本語 🙂 naïve"
"""The tiny tokenizer spells most of these characters with several tokens, and its models answer with such bytes."""
GENAI = ("plain", "draft", "lookup")


@pytest.fixture(scope="module", params=["native-draft", "native-plain", *GENAI])
def opened(request: pytest.FixtureRequest, tiny_pair: Path) -> Iterator[SpecPipeline]:
    with SpecPipeline(tiny_pair, mode=request.param, settings=EXACT) as pipeline:
        yield pipeline


def taken(items: list[Piece | Result]) -> tuple[list[Piece], Result]:
    *pieces, result = items
    assert isinstance(result, Result)
    return [piece for piece in pieces if isinstance(piece, Piece)], result


def test_two_threads_get_their_own_answers(opened: SpecPipeline) -> None:
    prompts = (PROMPT, "class Stack:\n    def push")
    expected = [opened.generate(prompt, max_new_tokens=8).token_ids for prompt in prompts]
    found: dict[int, list[list[int]]] = {0: [], 1: []}

    def ask(who: int) -> None:
        for _ in range(4):
            found[who].append(opened.generate(prompts[who], max_new_tokens=8).token_ids)

    threads = [threading.Thread(target=ask, args=(who,)) for who in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {who: [expected[who]] * 4 for who in found}


def test_sixteen_tasks_are_answered_in_their_order(opened: SpecPipeline) -> None:
    expected = opened.generate(PROMPT, max_new_tokens=5).token_ids
    order: list[int] = []

    async def ask(who: int) -> list[int]:
        answer = await opened.agenerate(PROMPT, max_new_tokens=5)
        order.append(who)
        return answer.token_ids

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(ask(who) for who in range(16)))

    assert asyncio.run(main()) == [expected] * 16
    assert order == list(range(16))


def test_a_callback_that_raises_reaches_the_caller(opened: SpecPipeline) -> None:
    def broken(piece: Piece) -> None:
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        opened.generate(PROMPT, max_new_tokens=100, on_piece=broken)
    assert opened.generate(PROMPT, max_new_tokens=3).token_ids, "the pipeline survives it"


def test_an_empty_prompt_and_one_beyond_the_context_are_sentences(opened: SpecPipeline) -> None:
    with pytest.raises(EdgespecError, match="the prompt is empty"):
        opened.generate("")
    with pytest.raises(EdgespecError, match=r"the prompt has [\d,]+ tokens and the context holds 512"):
        list(opened.stream("def add(a, b):\n" * 200))


def test_the_context_ends_an_answer(opened: SpecPipeline) -> None:
    words = opened._the_words()
    prompt = "def add(a, b):\n" * 45
    room = 512 - len(words.encode(prompt))
    assert 0 < room < 200
    result = opened.generate(prompt, max_new_tokens=400)
    assert (len(result.token_ids), result.finish_reason) == (room, "length")


def test_a_character_split_over_tokens_comes_whole(opened: SpecPipeline) -> None:
    pieces, result = taken(list(opened.stream(SPLIT, max_new_tokens=80)))
    assert "".join(piece.text for piece in pieces) == result.text == opened._the_words().decode(result.token_ids)
    assert any(not piece.text and piece.token_ids for piece in pieces), "some token ends in the middle of a character"


def test_what_may_begin_a_stop_string_is_held_back(opened: SpecPipeline) -> None:
    """Every stop string there is in the answer, from two characters on: no piece shows any of it."""
    whole = opened.generate(PROMPT, max_new_tokens=24)
    ids = whole.token_ids
    words = opened._the_words()
    starts = [len(words.decode(ids[:count])) for count in range(4, 16, 3)]  # begins with a token, ends in a later one
    for start in starts:
        stop = whole.text[start : start + 5]
        pieces, result = taken(list(opened.stream(PROMPT, max_new_tokens=24, stop=[stop])))
        said = "".join(piece.text for piece in pieces)
        assert result.finish_reason == "stop"
        assert said == result.text and stop not in said and whole.text.startswith(said)
        assert len(said) <= whole.text.index(stop)
        assert [token for piece in pieces for token in piece.token_ids] == result.token_ids
        assert result.token_ids == ids[: len(result.token_ids)]


def test_what_was_held_back_for_nothing_comes_at_the_end(opened: SpecPipeline) -> None:
    whole = opened.generate(PROMPT, max_new_tokens=10)
    stop = whole.text[-2:] + "never said"
    pieces, result = taken(list(opened.stream(PROMPT, max_new_tokens=10, stop=[stop])))
    assert result.token_ids == whole.token_ids and result.finish_reason == "length"
    assert "".join(piece.text for piece in pieces) == whole.text


def test_a_chats_later_turns_say_what_a_fresh_prompt_says(opened: SpecPipeline) -> None:
    """Whatever a cache keeps of the turns before."""
    chat = opened.chat(raw=True)
    text = ""
    for message in ("def add(a, b):\n    return a + b\n" * 3, "\nclass Stack:", "\nfor i in"):
        text += message
        answer = chat.ask(message, max_new_tokens=12, reuse_prefix=True)
        assert answer.token_ids == opened.generate(text, max_new_tokens=12).token_ids
        text += answer.text


def test_reading_anew_is_obeyed_or_refused(opened: SpecPipeline) -> None:
    if opened.choose()[0] in GENAI:
        with pytest.raises(EdgespecError, match="reuse_prefix=False was given and openvino-genai keeps what its cache"):
            opened.generate(PROMPT, reuse_prefix=False)
    else:
        assert opened.generate(PROMPT, max_new_tokens=2, reuse_prefix=False).token_ids


def test_a_closed_pipeline_says_so(opened: SpecPipeline, tiny_pair: Path) -> None:
    closed = SpecPipeline(tiny_pair, mode=opened.choose()[0])
    closed.close()
    for call in (closed.generate, closed.stream):
        with pytest.raises(EdgespecError, match="this pipeline is closed; make a new SpecPipeline"):
            call(PROMPT)
