"""One request for an answer, from its body to its last byte; and everything that may end it before that.

The client's connection is watched all the while. When it is gone, or takes nothing of what it is sent, the request
leaves the line, or its generation ends at the next step and its slot is free.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from edgespec.errors import EdgespecError
from edgespec.runtime import Options, Piece, Result

from . import errors
from .answers import DONE, Form, event
from .errors import ApiError
from .service import Service

log = logging.getLogger("edgespec.serve")


class ClientGone(Exception):
    """Nobody reads any more. slow: it is there, and takes nothing."""

    def __init__(self, slow: bool = False) -> None:
        super().__init__()
        self.slow = slow


class Answering:
    """An ASGI response. prompt, ids: the same, the text for the log. client: whose line it stands in."""

    def __init__(
        self, service: Service, form: Form, prompt: str, ids: Sequence[int], options: Options, stream: bool, client: str
    ) -> None:
        self._service = service
        self._form = form
        self._prompt = prompt
        self._ids = ids
        self._options = options
        self._stream = stream
        self._client = client
        self._asked_at = time.perf_counter()
        self._deadline = math.inf
        self._status: int | None = None
        self._answer: Any = None
        self._stopped: ApiError | None = None
        self._gone = False

    def stop(self, why: ApiError) -> None:
        """End the answer at its next step; `why` is what the client is told."""
        self._stopped = why
        if self._answer is not None:
            self._service.keep(asyncio.ensure_future(self._answer.aclose()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._work(scope, receive, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._gone = True
                work.cancel()
                with suppress(asyncio.CancelledError, ClientGone):
                    await work
                self._note("client_gone", None)
                return
            try:
                await work
            except ClientGone as error:  # an answer that is left unfinished makes uvicorn close the connection
                self._note("client_slow" if error.slow else "client_gone", None)
        finally:
            self._gone = True
            gone.cancel()
            work.cancel()

    # ---- the work, cancelled when the client is gone ---------------------------------------------------------------

    def _require_client(self) -> None:
        """Raises ClientGone. A cancellation is not enough: before Python 3.12 `asyncio.wait_for` drops one that comes
        just as what it waits for is done, and the answer would be written to its end for nobody."""
        if self._gone:
            raise ClientGone

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        service = self._service
        result: Result | None = None
        ended = "error"
        try:
            async with service.desk.turn(self._client):
                service.answering.add(self)
                service.metrics.began(time.perf_counter() - self._asked_at)
                try:
                    result = await self._written(scope, receive, send)
                finally:
                    service.answering.discard(self)
            ended = result.finish_reason
        except ApiError as error:
            ended = _how(error)
            await self._refuse(error, scope, receive, send)
        except EdgespecError as error:
            await self._refuse(errors.of(error), scope, receive, send)
        except ClientGone:
            raise
        except Exception as error:
            service.failed(error)
            await self._refuse(errors.ApiError(500, errors.FAILED, code="failed"), scope, receive, send)
        self._note(ended, result)

    async def _written(self, scope: Scope, receive: Receive, send: Send) -> Result:
        items = self._items()
        try:
            if not self._stream:
                async for item in items:
                    if isinstance(item, Result):
                        self._status = 200
                        await _sent(JSONResponse(self._form.whole(item)), scope, receive, self._timed(send))
                        return item
                raise AssertionError("an answer ends with its result")
            timed = self._timed(send)
            async for item in items:
                if self._status is None:
                    self._status = 200
                    await timed({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
                    await timed(_body(b"".join(map(event, self._form.opening()))))
                if isinstance(item, Result):
                    await timed(_body(b"".join(map(event, self._form.closing(item))) + DONE, more=False))
                    return item
                if item.text or self._form.draft:
                    await timed(_body(event(self._form.piece(item))))
            raise AssertionError("an answer ends with its result")
        finally:
            await items.aclose()

    async def _items(self) -> AsyncGenerator[Piece | Result, None]:
        """What the backend says, within the time an answer has."""
        service = self._service
        self._require_client()
        if self._stopped is not None:
            raise self._stopped
        self._deadline = time.perf_counter() + service.limits.answer_s
        answer = self._answer = service.backend.answer(self._ids, self._options)
        first = True
        try:
            while True:
                left = self._deadline - time.perf_counter()
                try:
                    if left <= 0:  # while a slow client was sent the last one; a piece that waits here is no excuse
                        raise asyncio.TimeoutError
                    item = await asyncio.wait_for(answer.__anext__(), left)
                except asyncio.TimeoutError:
                    raise errors.too_long(service.limits.answer_s) from None
                except StopAsyncIteration:
                    raise self._stopped or errors.closing() from None
                self._require_client()
                if isinstance(item, Result) and item.finish_reason == "cancelled":
                    raise self._stopped or errors.closing()
                if first:
                    first = False
                    service.metrics.first_token(time.perf_counter() - self._asked_at)
                yield item
                if isinstance(item, Result):
                    return
        finally:
            await answer.aclose()

    async def _refuse(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        """The slot is free by now, so the time that the answer had is none of the refusal's."""
        self._deadline = math.inf
        timed = self._timed(send)
        if self._status is None:
            self._status = error.status
            await _sent(JSONResponse(error.document(), error.status, headers=error.headers), scope, receive, timed)
        else:  # the answer has begun: its status cannot be taken back, its last event says what happened
            self._status = error.status
            await timed(_body(event(error.document()), more=False))

    def _timed(self, send: Send) -> Send:
        """Sends that end when the client takes nothing for send_s seconds, and with the time that the answer has: one
        who reads a few bytes now and then holds a slot no longer than any other."""

        async def timed(message: Any) -> None:
            left = min(self._service.limits.send_s, self._deadline - time.perf_counter())
            try:
                await asyncio.wait_for(send(message), max(left, 0.001))
            except asyncio.TimeoutError:
                raise ClientGone(slow=True) from None
            self._require_client()

        return timed

    def _note(self, ended: str, result: Result | None) -> None:
        """Counts and one line of log. An answer that nobody read to its end has no status."""
        service = self._service
        service.metrics.ended(ended, result)
        took = f"{(time.perf_counter() - self._asked_at) * 1e3:.0f} ms"
        route = "/v1/chat/completions" if self._form.chat else "/v1/completions"
        if self._status is not None:
            service.metrics.request(route, self._status)
        tokens = ""
        if result is not None:
            tokens = f", {len(result.token_ids)} tokens ({result.metrics.draft_tokens} from the draft)"
        log.info("%s %s %s, %s%s", route, self._status or "-", ended, took, tokens)
        if service.served.log_prompts:
            log.info("prompt %r answer %r", self._prompt, result.text if result is not None else None)


_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy in between is not to gather chunks
]


def _body(content: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _sent(response: JSONResponse, scope: Scope, receive: Receive, send: Send) -> None:
    await response(scope, receive, send)


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _how(error: ApiError) -> str:
    return {"answer_timeout": "timeout", "queue_timeout": "timeout", "shutting_down": "shutdown"}.get(
        error.code or "", "error"
    )
