"""The routes, and how a body becomes a request of the runtime's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from edgespec.engine.reading import Reading
from edgespec.errors import EdgespecError
from edgespec.runtime import Options

from . import errors
from .answering import Answering
from .answers import Form
from .errors import ApiError
from .metrics import CONTENT_TYPE
from .protocol import ChatBody, CompletionBody, read
from .service import Service

_AS_ASKED = {"top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"}
"""Fields that the runtime takes by the same names."""

A = TypeVar("A")
R = TypeVar("R")
B = TypeVar("B", ChatBody, CompletionBody)


class Routes:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, request: Request) -> Answering:
        body = await self._read(request, ChatBody)
        messages = [message.plain for message in body.messages]
        backend, served = self._service.backend, self._service.served
        if backend.has_chat_template:
            prompt = await _in_thread(lambda turns: Reading.of_chat(backend, turns), messages)
        elif served.raw_chat:
            prompt = Reading("".join(message["content"] for message in messages))
        else:
            raise errors.invalid(
                f"'{served.name}' has no chat template: it is a model that continues text; use "
                f"/v1/completions, or start "
                "the server with --raw, which joins the messages to one text",
                "messages",
                "no_chat_template",
            )
        return await self._answering(request, body, prompt, chat=True)

    async def completion(self, request: Request) -> Answering:
        body = await self._read(request, CompletionBody)
        return await self._answering(request, body, Reading(body.prompt), chat=False)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._require_model(request.path_params["model"])
        return JSONResponse(self._model())

    async def health(self, request: Request) -> Response:
        """200 when an answer could begin; 503 while the model is loaded and while the server shuts down."""
        service = self._service
        status = "closing" if service.desk.closed else "ready" if service.backend.ready else "loading"
        return JSONResponse({"status": status}, 200 if status == "ready" else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    # ---- a request for an answer -----------------------------------------------------------------------------------

    async def _answering(
        self, request: Request, body: ChatBody | CompletionBody, prompt: Reading, *, chat: bool
    ) -> Answering:
        service = self._service
        self._require_model(body.model)
        for name, why in service.backend.refused.items():
            if (body.schema if name == "response_format" else getattr(body, name, None)) is not None:
                raise errors.unsupported(name, why)
        ids = await _in_thread(prompt.ids, service.backend)
        limit = self._room(body, len(ids), chat)
        form = Form(service.served.name, chat, service.fingerprint, body.wants_usage, body.wants_draft)
        options = self._options(body, limit)
        return Answering(service, form, prompt.text, ids, options, bool(body.stream), _client(request, body))

    def _options(self, body: ChatBody | CompletionBody, limit: int) -> Options:
        temperature = self._service.served.temperature if body.temperature is None else body.temperature
        options = Options(max_new_tokens=limit, temperature=temperature, stop=body.stops, reuse_prefix="where possible")
        options.update(cast(Options, body.model_dump(include=_AS_ASKED, exclude_none=True)))
        if body.seed is not None:
            options["seed"] = body.seed % 2**63
        if body.logit_bias:
            options["logit_bias"] = {int(token): bias for token, bias in body.logit_bias.items()}
        if body.schema is not None:
            options["json_schema"] = body.schema
        return options

    def _room(self, body: ChatBody | CompletionBody, count: int, chat: bool) -> int:
        """Tokens that the answer to a prompt of `count` may have. Raises ApiError (400) when prompt, or prompt and
        answer, are too long."""
        service = self._service
        name = "messages" if chat else "prompt"
        context, most = service.backend.context, service.limits.prompt_tokens
        if count == 0:
            raise errors.invalid("the prompt is empty; give at least one token to continue from", name)
        if most is not None and count > most:
            raise errors.invalid(
                f"the prompt has {count:,} tokens and this server takes {most:,}; shorten it", name, "prompt_too_long"
            )
        if context is not None and count >= context:
            raise errors.invalid(
                f"the prompt has {count:,} tokens and the model's context holds {context:,}, the answer "
                f"included; shorten it",
                name,
                "context_length_exceeded",
            )
        asked = body.limit
        if asked is not None and asked > service.limits.answer_tokens:
            field = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
            raise errors.invalid(
                f"{field} is {asked:,} and this server writes at most {service.limits.answer_tokens:,}", field
            )
        return service.limits.answer_tokens if asked is None else asked

    def _require_model(self, name: str) -> None:
        served = self._service.served.name
        if name != served:
            raise ApiError(
                404, f"there is no such model here; this server has '{served}'", param="model", code="model_not_found"
            )

    def _model(self) -> dict[str, object]:
        """chat, context: extensions, what the model can do."""
        service = self._service
        ready = service.backend.ready
        return {
            "id": service.served.name,
            "object": "model",
            "created": service.created,
            "owned_by": "edgespec",
            "chat": service.served.raw_chat or service.backend.has_chat_template if ready else None,
            "context": service.backend.context if ready else None,
        }

    async def _read(self, request: Request, model: type[B]) -> B:
        if not self._service.backend.ready:
            raise errors.loading()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a form that another site's page posts has another one
            raise ApiError(415, "the body must be JSON, with Content-Type: application/json", code="wrong_content_type")
        body = read(await self._body(request), model)
        self._service.desk.require_place()  # in a flood, prompts that are refused cost the answers that run no time
        return body

    async def _body(self, request: Request) -> bytes:
        most, seconds = self._service.limits.body_bytes, self._service.limits.body_s
        said = request.headers.get("content-length", "0")
        if said.isdigit() and len(said) < 20 and int(said) > most:
            raise _too_large(most)
        try:
            return await asyncio.wait_for(_gathered(request, most), seconds)
        except asyncio.TimeoutError:
            raise ApiError(408, f"the body did not arrive within {seconds:g} seconds", code="body_timeout") from None
        except ClientDisconnect:
            raise ApiError(400, "the connection was closed in the middle of the body", code="disconnected") from None


async def _gathered(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than the {most:,} bytes that this server takes",
        code="body_too_large",
        headers={"Connection": "close"},
    )


def _client(request: Request, body: ChatBody | CompletionBody) -> str:
    """Whose line a request stands in: whom the body names, else the connection it came over."""
    peer = request.client
    return f"user {body.client}" if body.client else f"{peer.host}:{peer.port}" if peer else ""


async def _in_thread(work: Callable[[A], R], what: A) -> R:
    """Long prompts take a while; the loop goes on. An EdgespecError becomes the answer, see errors.of."""
    try:
        return await asyncio.to_thread(work, what)
    except EdgespecError as error:
        raise errors.of(error) from error
