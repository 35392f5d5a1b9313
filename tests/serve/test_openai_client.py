"""OpenAI's own Python client against a live server on the bundled pair."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from scripted_server import Live

PROMPT = "def add(a, b):\n    return"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99, "minimum": 1}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(bundled_server: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{bundled_server.url}/v1", api_key="none needed", max_retries=0) as found:
        yield found


def chat(client: openai.OpenAI, **options: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "bundled", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 24}
        | options
    )


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["bundled"]
    assert client.models.retrieve("bundled").owned_by == "edgespec"
    with pytest.raises(openai.NotFoundError, match="there is no such model here; this server has 'bundled'"):
        client.models.retrieve("gpt-4o")


def test_a_chat_and_its_stream_say_the_same(client: openai.OpenAI) -> None:
    whole = chat(client)
    assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
    assert whole.choices[0].finish_reason == "length" and whole.choices[0].message.content.strip()
    counts = whole.usage
    assert counts.completion_tokens == 24 and counts.total_tokens == counts.prompt_tokens + 24
    details = counts.completion_tokens_details
    assert 0 <= details.accepted_prediction_tokens <= 24 and details.rejected_prediction_tokens >= 0
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 24
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_second_turn_sends_the_answers_message_back(client: openai.OpenAI) -> None:
    first = chat(client).choices[0].message
    turns = [{"role": "user", "content": PROMPT}, first, {"role": "user", "content": "go on"}]
    assert chat(client, messages=turns).choices[0].message.content
    dumped = [turns[0], first.model_dump(), turns[2]]
    assert (
        chat(client, messages=dumped).choices[0].message.content
        == chat(client, messages=turns).choices[0].message.content
    )


def test_without_being_asked_a_stream_has_no_usage_and_no_extensions(client: openai.OpenAI) -> None:
    chunks = list(chat(client, stream=True))
    assert all("usage" not in c.model_fields_set and len(c.choices) == 1 for c in chunks)
    assert all(not c.choices[0].model_extra for c in chunks)


def test_chunks_say_on_request_which_tokens_the_draft_proposed(client: openai.OpenAI) -> None:
    options = {"include_usage": True, "include_draft": True}
    chunks = list(chat(client, stream=True, stream_options=options, max_tokens=64))
    marked = [chunk.choices[0].model_extra for chunk in chunks[:-1] if chunk.choices[0].model_extra]
    assert sum(mark["tokens"] for mark in marked) == 64
    drafted = sum(mark["tokens"] for mark in marked if mark["from_draft"])
    assert drafted == chunks[-1].usage.completion_tokens_details.accepted_prediction_tokens


def test_completions_stop_and_seed(client: openai.OpenAI) -> None:
    def ask(**options: Any) -> Any:
        return client.completions.create(**{"model": "bundled", "prompt": PROMPT, "max_tokens": 32} | options)

    text = ask(temperature=0).choices[0].text
    stop = text.strip()[3:6]
    stopped = ask(temperature=0, stop=[stop]).choices[0]
    assert stopped.text == text[: text.index(stop)] and stopped.finish_reason == "stop"
    parts = list(ask(temperature=0, stop=stop, stream=True))
    assert "".join(part.choices[0].text for part in parts) == stopped.text
    assert len({ask(temperature=1.5, seed=seed).choices[0].text for seed in range(4)}) > 1
    assert client.completions.create(model="bundled", prompt=PROMPT, temperature=0).usage.completion_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_follows_its_json_schema(client: openai.OpenAI, stream: bool) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    answer = chat(client, response_format=wanted, max_tokens=64, stream=stream, temperature=1, seed=1)
    text = (
        "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        if stream
        else answer.choices[0].message.content
    )
    found = json.loads(text)
    assert set(found) == {"name", "age"} and isinstance(found["age"], int) and 1 <= found["age"] <= 99


def test_json_object_begins_an_object(client: openai.OpenAI) -> None:
    assert chat(client, response_format={"type": "json_object"}).choices[0].message.content.startswith("{")


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools", "parses tool calls"),
        ({"n": 2}, "n", "one answer is written a request"),
        ({"logprobs": True}, "logprobs", "no log-probabilities are handed out"),
        ({"top_logprobs": 5}, "top_logprobs", "no log-probabilities are handed out"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "no such control"),
        ({"extra_body": {"surprise": 1}}, "surprise", "there is no field 'surprise'"),
    ],
)
def test_what_is_not_done_is_refused(client: openai.OpenAI, options: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as refusal:
        chat(client, **options)
    assert refusal.value.param == param and refusal.value.type == "invalid_request_error"


def test_a_schema_that_is_none_is_refused_before_a_stream_begins(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError, match="grammar"):
        chat(client, response_format=wanted, stream=True)


def test_asynchronous_clients_get_their_own_answers(bundled_server: Live) -> None:
    prompts = ["def add(a, b):\n", "class Stack:\n", "import os\n", "for i in range("]

    async def main() -> tuple[list[str], list[str]]:
        url = f"{bundled_server.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none needed", max_retries=0) as client:

            async def whole(prompt: str) -> str:
                made = await client.completions.create(model="bundled", prompt=prompt, max_tokens=12, temperature=0)
                return made.choices[0].text

            async def streamed(prompt: str) -> str:
                stream = await client.completions.create(
                    model="bundled", prompt=prompt, max_tokens=12, temperature=0, stream=True
                )
                return "".join([part.choices[0].text async for part in stream])

            alone = [await whole(prompt) for prompt in prompts]
            both = await asyncio.gather(*map(whole, prompts), *map(streamed, prompts))
            return alone, list(both)

    alone, together = asyncio.run(main())
    assert together == alone * 2
