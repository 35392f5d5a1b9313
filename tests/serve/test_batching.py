"""Many answers at once: each is the one it would have been alone, and one that is left ends at its next step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from scripted_server import live

from edgespec import SpecPipeline
from edgespec.errors import EdgespecError
from edgespec.runtime import Options, Piece, Result
from edgespec.serve import Batched, Served

PROMPTS = ("def add(a, b):\n    return", "class Stack:\n    def push", "for i in range(", "The quick brown fox")


@pytest.fixture(scope="module")
def batched(tiny_pair: Path) -> Iterator[Batched]:
    backend = Batched(tiny_pair, 3, device="CPU")
    backend.wait_until_ready()
    yield backend
    backend.close()


async def collect(backend: Batched, prompt: str, options: Options) -> tuple[str, Result]:
    text, result = "", None
    async for item in backend.answer(backend.encode(prompt, special=True), options):
        if isinstance(item, Piece):
            text += item.text
        else:
            result = item
    assert result is not None
    return text, result


def test_answers_at_once_are_those_of_plain_decoding(batched: Batched, tiny_pair: Path) -> None:
    with SpecPipeline(tiny_pair, device="CPU", mode="plain") as pipeline:
        expected = [pipeline.generate(prompt, max_new_tokens=24) for prompt in PROMPTS]

    async def main() -> list[tuple[str, Result]]:
        options = Options(max_new_tokens=24)
        return await asyncio.gather(*(collect(batched, prompt, options) for prompt in PROMPTS))

    for (text, result), alone in zip(asyncio.run(main()), expected, strict=True):
        same = sum(a == b for a, b in zip(result.token_ids, alone.token_ids, strict=False))
        assert same >= 4, "a batch may round otherwise, late in an answer of random weights; never at its beginning"
        assert text == result.text and result.finish_reason in ("length", "stop")
        assert result.metrics.prompt_tokens == alone.metrics.prompt_tokens and result.metrics.draft_tokens == 0


def test_stop_strings_are_cut_out_of_the_text(batched: Batched) -> None:
    async def main() -> None:
        text, _ = await collect(batched, PROMPTS[0], Options(max_new_tokens=24))
        stop = text[6:9]
        cut, result = await collect(batched, PROMPTS[0], Options(max_new_tokens=24, stop=[stop]))
        assert cut == result.text == text[: text.index(stop)] and result.finish_reason == "stop"

    asyncio.run(main())


def test_one_that_is_left_ends_and_the_others_go_on(batched: Batched) -> None:
    async def main() -> None:
        left = batched.answer(batched.encode(PROMPTS[0], special=True), Options(max_new_tokens=400))
        await left.__anext__()
        other = asyncio.ensure_future(collect(batched, PROMPTS[1], Options(max_new_tokens=20)))
        await left.aclose()
        items = [item async for item in left]
        assert isinstance(items[-1], Result) and items[-1].finish_reason == "cancelled"
        assert len(items[-1].token_ids) < 400
        assert len((await other)[1].token_ids) == 20

    asyncio.run(main())


def test_sampling_follows_the_seed(batched: Batched) -> None:
    async def main() -> list[list[int]]:
        options = [Options(max_new_tokens=12, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
        return [(await collect(batched, PROMPTS[3], each))[1].token_ids for each in options]

    first, again, other = asyncio.run(main())
    assert first == again != other


def test_what_it_cannot_do_is_refused(batched: Batched, tiny_pair: Path) -> None:
    with live(batched, Served("tiny", raw_chat=True)) as server:
        ask = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
        url = f"{server.url}/v1/chat/completions"
        for more in ({"response_format": {"type": "json_object"}}, {"logit_bias": {"1": 5}}):
            reply = httpx.post(url, json=ask | more)
            assert reply.status_code == 400 and "start the server without --batch" in reply.json()["error"]["message"]
        assert httpx.post(url, json=ask | {"response_format": {"type": "text"}}, timeout=60).status_code == 200
        assert server.service.desk._slots == 3
    with pytest.raises(EdgespecError, match=r"no device|there is no"):
        Batched(tiny_pair, 2, device="NOSUCH").wait_until_ready()
