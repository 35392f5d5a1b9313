"""The ASGI application: routes, the door in front of them, and every error in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import FAILED, ApiError
from .guard import Guard
from .openapi import describe
from .page import PAGE, PAGE_HEADERS
from .routes import Routes
from .service import Service
from .settings import Access


def make_app(service: Service, access: Access) -> ASGIApp:
    routes = Routes(service)
    document = describe(service.served, service.limits, access)

    async def openapi(request: Request) -> Response:
        return JSONResponse(document)

    async def page(request: Request) -> Response:
        return Response(PAGE, media_type="text/html", headers=PAGE_HEADERS)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return _answered(service, request.scope, error)

    async def no_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "there is no such path; see /openapi.json", 405: "this path does not take that method"}
        message = words.get(error.status_code, str(error.detail))
        return _answered(
            service, request.scope, ApiError(error.status_code, message, code="no_route", headers=error.headers)
        )

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
            Route("/v1/completions", routes.completion, methods=["POST"]),
            Route("/v1/models", routes.models),
            Route("/v1/models/{model}", routes.model),
            Route("/health", routes.health),
            Route("/metrics", routes.metrics),
            Route("/openapi.json", openapi),
            Route("/", page),
        ],
        middleware=[Middleware(_Unforeseen, service=service)],
        exception_handlers={ApiError: refused, HTTPException: no_route},
    )
    app.router.redirect_slashes = False
    return Guard(app, access)


class _Unforeseen:
    """Errors that nobody foresaw end here, with a 500. Starlette's own handler for them raises them again, and uvicorn
    then logs their words, which may quote a prompt; `Service.failed` does not."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            self._service.failed(error)
            if not begun:  # else uvicorn closes the connection of an answer that is left unfinished
                await _answered(self._service, scope, ApiError(500, FAILED, code="failed"))(scope, receive, send)


def _answered(service: Service, scope: Scope, error: ApiError) -> Response:
    """The refusal, counted by its route."""
    route: Any = scope.get("route")
    service.metrics.request(getattr(route, "path", "other"), error.status)
    return JSONResponse(error.document(), error.status, headers=error.headers)
