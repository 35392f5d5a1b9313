"""Refusals in the shape in which OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgespec.errors import EdgespecError, EngineFailed, MemoryShortage

NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's own clients heed this header: an answer that took too long once will again."""


class ApiError(Exception):
    """A refusal with its HTTP status. param: the field that is at fault; code: for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """OpenAI's type of error for the status."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 403:
            return "permission_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def document(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def of(error: EdgespecError) -> ApiError:
    """What the runtime refuses is the request's fault, unless an engine broke down or memory is short just now."""
    if isinstance(error, EngineFailed):
        return ApiError(500, str(error), code="engine_failed")
    if isinstance(error, MemoryShortage):
        return ApiError(503, str(error), code="memory_shortage")
    return invalid(str(error), code="refused")


def invalid(message: str, param: str | None = None, code: str | None = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)


def unsupported(param: str, why: str) -> ApiError:
    """A field that OpenAI knows and this server does not obey."""
    return ApiError(400, f"'{param}' is not supported: {why}; leave it out", param=param, code="unsupported_parameter")


def busy(waiting: int, retry_s: int) -> ApiError:
    return ApiError(
        429,
        f"{waiting} requests wait already, as many as may; ask again in about {retry_s} seconds",
        code="queue_full",
        headers={"Retry-After": str(retry_s)},
    )


def closing() -> ApiError:
    return ApiError(503, "this server is shutting down", code="shutting_down", headers={"Retry-After": "5"})


def loading() -> ApiError:
    return ApiError(503, "the model is being loaded; ask again shortly", code="loading", headers={"Retry-After": "1"})


def waited(seconds: float) -> ApiError:
    return ApiError(
        429,
        f"this request waited {seconds:g} seconds for its turn, the most that one may; ask again when less is going on",
        code="queue_timeout",
        headers={"Retry-After": "5"},
    )


def too_long(seconds: float) -> ApiError:
    return ApiError(
        504,
        f"the answer took more than {seconds:g} seconds, the most that one may, and was given up; ask for fewer tokens",
        code="answer_timeout",
        headers=NO_RETRY,
    )


FAILED = "this request made the server fail; its log says where"
