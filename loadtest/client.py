"""One request as a client sees it: streamed, timed at its first text and at its end, and never raising."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

MOST_WORDS = 300
"""Characters of a server's complaint that are kept."""


@dataclass(frozen=True)
class Target:
    """url: ends in the API's version, such as http://127.0.0.1:8000/v1."""

    url: str
    model: str
    chat: bool
    max_tokens: int
    temperature: float

    @property
    def route(self) -> str:
        return f"{self.url}/{'chat/completions' if self.chat else 'completions'}"

    def body(self, prompt: str) -> dict[str, Any]:
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]} if self.chat else {"prompt": prompt}
        return {
            "model": self.model,
            **asked,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


@dataclass
class Outcome:
    """Times by `clock`."""

    sent_s: float
    first_s: float | None = None
    ended_s: float = 0.0
    status: int | None = None
    error: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None
    accepted: int | None = None
    chunks: int = 0


async def ask(
    client: httpx.AsyncClient, target: Target, prompt: str, clock: Callable[[], float] = time.perf_counter
) -> Outcome:
    """What became of the request. Where a server sends no counts, pieces of text are taken for tokens."""
    outcome = Outcome(clock())
    try:
        async with client.stream("POST", target.route, json=target.body(prompt)) as reply:
            outcome.status = reply.status_code
            if reply.status_code != 200:
                outcome.error = _complaint(await reply.aread())
            else:
                done = False
                async for line in reply.aiter_lines():
                    if line == "data: [DONE]":
                        done = True
                    elif line.startswith("data: "):
                        _take(json.loads(line[6:]), outcome, clock, target.chat)
                if not done and outcome.error is None:
                    outcome.error = "the stream ended in the middle"
    except httpx.TimeoutException as error:
        outcome.error = f"timeout ({type(error).__name__})"
    except httpx.HTTPError as error:
        outcome.error = f"{type(error).__name__}: {error}"[:MOST_WORDS]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        outcome.error = f"the reply is not OpenAI's: {type(error).__name__}"
    outcome.ended_s = clock()
    if outcome.error is None and outcome.tokens is None:
        outcome.tokens = outcome.chunks
    return outcome


def _take(chunk: Mapping[str, Any], outcome: Outcome, clock: Callable[[], float], chat: bool) -> None:
    if "error" in chunk:
        outcome.error = str(chunk["error"]["message"])[:MOST_WORDS]
        return
    usage = chunk.get("usage")
    if usage:
        outcome.prompt_tokens = usage.get("prompt_tokens")
        outcome.tokens = usage.get("completion_tokens")
        outcome.accepted = (usage.get("completion_tokens_details") or {}).get("accepted_prediction_tokens")
    for choice in chunk.get("choices") or ():
        text = (choice.get("delta") or {}).get("content") if chat else choice.get("text")
        if text:
            outcome.chunks += 1
            if outcome.first_s is None:
                outcome.first_s = clock()
        outcome.finish_reason = choice.get("finish_reason") or outcome.finish_reason


def _complaint(body: bytes) -> str:
    try:
        found = json.loads(body)["error"]
        message = found["message"] if isinstance(found, dict) else found
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace")
    return str(message)[:MOST_WORDS]
