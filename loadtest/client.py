"""One request as a client sees it: streamed, timed at its first text and at its end, and never raising."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .rows import Reply

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


Count = Annotated[int, BeforeValidator(lambda value: _number(value)), Field(ge=0, lt=2**31)]


def _number(value: Any) -> Any:
    """JSON has one kind of number: 12.0 is a count, 12.5 is none, and neither is "12" or true."""
    if isinstance(value, bool | str):
        raise ValueError("should be a number")
    return value


class _Part(BaseModel):
    """What is read of a server's JSON; it may say more, and null for what it leaves out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Details(_Part):
    accepted_prediction_tokens: Count | None = None


class _Usage(_Part):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    completion_tokens_details: _Details | None = None


class _Delta(_Part):
    content: str | None = None


class _Choice(_Part):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None

    @property
    def said(self) -> str:
        return (self.delta.content if self.delta is not None else self.text) or ""


class _Chunk(_Part):
    """One event of a stream."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Heard:
    """What came of a stream so far."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.finish_reason: str | None = None
        self.usage = _Usage()
        self.error: str | None = None
        self.chunks = 0
        self.done = False

    def take(self, line: str, clock: Callable[[], float]) -> None:
        """A line of the stream. Raises ValidationError where it is not as OpenAI's servers speak."""
        if not line.startswith("data:"):
            return
        event = line[5:].strip()
        if event == "[DONE]":
            self.done = True
            return
        chunk = _Chunk.model_validate(json.loads(event))
        if chunk.error is not None:
            self.error = _message(chunk.error)
            return
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices or ():
            if choice.said:
                self.chunks += 1
                self.first_s = clock() if self.first_s is None else self.first_s
            self.finish_reason = choice.finish_reason or self.finish_reason


async def ask(
    client: httpx.AsyncClient, target: Target, prompt: str, clock: Callable[[], float] = time.perf_counter
) -> Reply:
    """What became of the request; whatever the server answers, nothing is raised. Where it sends no counts, pieces of
    text are taken for tokens."""
    heard = _Heard()
    status: int | None = None
    sent_s = clock()
    try:
        async with client.stream("POST", target.route, json=target.body(prompt)) as reply:
            status = reply.status_code
            if status != 200:
                heard.error = _complaint(await reply.aread())
            else:
                async for line in lines(reply.aiter_bytes()):
                    heard.take(line, clock)
                if not heard.done and heard.error is None:
                    heard.error = "the stream ended in the middle"
    except httpx.TimeoutException as error:
        heard.error = f"timeout ({type(error).__name__})"
    except (httpx.HTTPError, httpx.StreamError) as error:
        heard.error = f"{type(error).__name__}: {error}"[:MOST_WORDS]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "a chunk"
        heard.error = f"the reply is not OpenAI's: {where}: {first['msg']}"[:MOST_WORDS]
    except (ValueError, RecursionError) as error:
        heard.error = f"the reply is not OpenAI's: {type(error).__name__}"
    usage = heard.usage
    tokens = heard.chunks if heard.error is None and usage.completion_tokens is None else usage.completion_tokens
    return Reply(
        sent_s=sent_s,
        first_s=heard.first_s,
        ended_s=clock(),
        status=status,
        error=heard.error,
        finish_reason=heard.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        tokens=tokens,
        accepted=(usage.completion_tokens_details or _Details()).accepted_prediction_tokens,
        chunks=heard.chunks,
    )


_LINE_END = re.compile(rb"\r\n|\r|\n")


async def lines(parts: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The lines of an event stream, as soon as each is whole. They end with LF, CR LF or CR (HTML standard, section
    9.2.6) and nothing else: httpx's own end at U+2028 and its like too, which may stand in JSON as they are."""
    rest, after_cr = b"", False
    async for part in parts:
        if after_cr and part:
            part, after_cr = part.removeprefix(b"\n"), False
        *whole, rest = _LINE_END.split(rest + part)
        after_cr = after_cr or part.endswith(b"\r")
        for line in whole:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def _complaint(body: bytes) -> str:
    try:
        return _message(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return body.decode("utf-8", "replace")[:MOST_WORDS]


def _message(error: Any) -> str:
    """OpenAI's errors are objects with a message; other servers send the message alone."""
    return str(error.get("message", error) if isinstance(error, Mapping) else error)[:MOST_WORDS]
