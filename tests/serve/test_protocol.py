"""Bodies: what is read, and the sentence for what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from edgespec.serve.errors import ApiError
from edgespec.serve.openapi import describe
from edgespec.serve.protocol import REFUSED, ChatBody, CompletionBody, read
from edgespec.serve.settings import Access, Limits, Served

USER = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> ChatBody:
    return read(json.dumps({"model": "m", "messages": USER} | fields).encode(), ChatBody)


def completion(**fields: Any) -> CompletionBody:
    return read(json.dumps({"model": "m", "prompt": "hello"} | fields).encode(), CompletionBody)


def test_parts_join_and_a_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = chat(messages=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}])
    assert [message.plain for message in body.messages] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
    ]


def test_a_null_is_an_absent_field() -> None:
    body = chat(**dict.fromkeys([*REFUSED, *(set(ChatBody.model_fields) - {"model", "messages"})]))
    assert body == chat()


def test_an_answers_message_may_be_sent_back_as_it_came() -> None:
    """The openai client dumps what it was given, nulls included."""
    said = {"role": "assistant", "content": "hi", "refusal": None, "tool_calls": None, "annotations": None}
    body = chat(messages=[*USER, said, *USER])
    assert body == chat(messages=[*USER, {"role": "assistant", "content": "hi"}, *USER])
    with pytest.raises(ApiError, match="content"):
        chat(messages=[{"role": "assistant", "content": None}])
    with pytest.raises(ApiError, match="tool_calls"):
        chat(messages=[{"role": "assistant", "content": "hi", "tool_calls": [{"id": "1"}]}])


def test_values_that_ask_for_what_is_done_anyway_pass() -> None:
    chat(
        n=1,
        logprobs=False,
        top_logprobs=0,
        store=False,
        service_tier="auto",
        modalities=["text"],
        tools=[],
        metadata={},
    )
    completion(best_of=1, echo=False, n=1, suffix="")


def test_limits_by_either_name_and_their_defaults() -> None:
    assert chat().limit is None and completion().limit == 16
    assert chat(max_tokens=3).limit == chat(max_completion_tokens=3).limit == 3
    assert chat(max_tokens=3, max_completion_tokens=3).limit == 3
    assert chat(stop="x").stops == ("x",) and chat(stop=["x", "y"]).stops == ("x", "y") and chat().stops == ()


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"tools": [{}]}, "tools", "unsupported_parameter", "neither engine parses tool calls; leave it out"),
        ({"functions": []}, "functions", "unsupported_parameter", "function calls"),
        ({"n": 2}, "n", "unsupported_parameter", "one answer is written a request"),
        ({"n": True}, "n", "unsupported_parameter", "one answer is written a request"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter", "no log-probabilities are handed out"),
        ({"best_of": True}, "best_of", "unsupported_parameter", "one answer"),
        ({"sampler": "x"}, "sampler", "unknown_parameter", "there is no field 'sampler'"),
        ({"temperature": 3}, "temperature", "invalid_value", "less than or equal to 2"),
        ({"temperature": "0.5"}, "temperature", "invalid_value", "valid number"),
        ({"temperature": "hot"}, "temperature", "invalid_value", "valid number"),
        ({"top_p": 0}, "top_p", "invalid_value", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value", "greater than or equal to 1"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, None, "invalid_value", "the same limit; give one of them"),
        ({"stop": ["x"] * 17}, "stop", "invalid_value", "at most 16"),
        ({"stop": ""}, "stop", "invalid_value", "is a string that is not empty"),
        ({"stream_options": {"include_usage": True}}, None, "invalid_value", "set stream to true"),
        ({"logit_bias": {"word": 1}}, "logit_bias.word", "invalid_value", "pattern"),
        ({"messages": []}, "messages", "invalid_value", "at least 1 item"),
        ({"messages": None}, "messages", "missing_required_parameter", "the field 'messages' is missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "invalid_value", "roles are system"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "invalid_value", "valid"),
        (
            {"messages": [{"role": "user", "content": "x", "name": "Ann"}]},
            "messages.0.name", "unsupported_parameter", "role and content",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            "messages.0.content.0.type", "unsupported_parameter", "no images, audio or files",
        ),
        ({"response_format": {"type": "grammar"}}, "response_format", "invalid_value", "'json_schema'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema", "missing_required_parameter", "is missing",
        ),
    ],
)  # fmt: skip
def test_refusals_name_the_field_and_say_why(fields: dict[str, Any], param: str | None, code: str, words: str) -> None:
    with pytest.raises(ApiError) as refusal:
        chat(**fields)
    assert (refusal.value.status, refusal.value.param, refusal.value.code) == (400, param, code)
    assert words in refusal.value.message


def test_completions_take_one_string() -> None:
    for prompt in (["a", "b"], [1, 2], "", 3):
        with pytest.raises(ApiError, match="one string that is not empty"):
            completion(prompt=prompt)
    with pytest.raises(ApiError, match="'echo' is not supported"):
        completion(echo=True)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"3", b'{"model": NaN}', b'"\\ud800"', b"[" * 100_000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError, match=r"no JSON document|must be a JSON object"):
        read(body, ChatBody)


JSON = some.recursive(
    some.none() | some.booleans() | some.floats(allow_nan=False, allow_infinity=False) | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fields=some.dictionaries(some.sampled_from([*ChatBody.model_fields, *REFUSED]), JSON, max_size=4))
def test_any_body_is_read_or_refused_and_no_refusal_quotes_long_input(fields: dict[str, Any]) -> None:
    try:
        chat(**fields)
    except ApiError as error:
        assert error.status == 400 and error.message and len(error.message) < 400


def test_the_description_says_that_there_are_no_log_probabilities_and_why() -> None:
    """In requests, where asking for them is refused with the same words, and in answers."""
    schemas = describe(Served("m"), Limits(), Access())["components"]["schemas"]
    chats, completions = (schemas[name]["properties"] for name in ("ChatRequest", "CompletionRequest"))
    fields = [chats["logprobs"], chats["top_logprobs"], completions["logprobs"]]
    answers = [schemas[name]["properties"]["choices"]["items"] for name in ("ChatAnswer", "CompletionAnswer")]
    with pytest.raises(ApiError) as refusal:
        chat(logprobs=True)
    for field in (*fields, *(answer["properties"]["logprobs"] for answer in answers)):
        why = field["description"].partition(": ")[2].rstrip(".")
        assert why.startswith("no log-probabilities are handed out") and why in refusal.value.message
    for ask, logprobs in ((chat, True), (completion, 5), (completion, 0)):
        with pytest.raises(ApiError, match="'logprobs' is not supported: no log-probabilities are handed out"):
            ask(logprobs=logprobs)
