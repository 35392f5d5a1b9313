"""/openapi.json: what this server does, made from the models that read its requests. It says nothing that is not so."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from .protocol import NO_LOGPROBS, ChatBody, CompletionBody
from .settings import Access, Limits, Served

Document = dict[str, Any]

_ERROR: Document = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {
                    "enum": [
                        "invalid_request_error",
                        "authentication_error",
                        "permission_error",
                        "rate_limit_error",
                        "server_error",
                    ]
                },
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}  # fmt: skip

_USAGE: Document = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details"],
    "properties": {
        "prompt_tokens": {"type": "integer"},
        "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
        "completion_tokens_details": {
            "type": "object",
            "required": ["accepted_prediction_tokens", "rejected_prediction_tokens"],
            "properties": {
                "accepted_prediction_tokens": {
                    "type": "integer",
                    "description": "tokens of the answer that the draft proposed",
                },
                "rejected_prediction_tokens": {
                    "type": ["integer", "null"],
                    "description": "tokens proposed and thrown away, not among completion_tokens; null: not known",
                },
            },
        },
    },
}

_MODEL: Document = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by", "chat", "context"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "chat": {"type": ["boolean", "null"], "description": "whether it answers chats; null while it is loaded"},
        "context": {"type": ["integer", "null"], "description": "tokens of prompt and answer at most"},
    },
}

_REFUSALS = {
    400: "The request is not obeyed; the message says why, `param` names the field.",
    401: "The API key is missing or wrong.",
    403: "A web page of another origin asked.",
    404: "There is no such model, or no such path.",
    405: "The path does not take this method.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    421: "The Host header names another server.",
    429: "The line is full, or the wait was too long; see Retry-After.",
    500: "The server failed.",
    503: "The model is being loaded, or the server shuts down.",
    504: "The answer took too long.",
}
_ANYWHERE = (401, 403, 405, 421, 500)


def describe(served: Served, limits: Limits, access: Access) -> Document:
    """The OpenAPI 3.1 document."""
    schemas: Document = {"Error": _ERROR, "Usage": _USAGE, "Model": _MODEL}
    for name, model in (("ChatRequest", ChatBody), ("CompletionRequest", CompletionBody)):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
        schemas |= schema.pop("$defs", {})
        schema["properties"]["model"]["enum"] = [served.name]
        for field in ("max_tokens", "max_completion_tokens"):
            for branch in schema["properties"].get(field, {}).get("anyOf", []):
                if branch["type"] == "integer":
                    branch.pop("exclusiveMaximum", None)
                    branch["maximum"] = limits.answer_tokens
        schemas[name] = schema
    schemas["ChatAnswer"] = _answer("chat.completion", {"message": _message()}, ["message"])
    schemas["CompletionAnswer"] = _answer("text_completion", {"text": {"type": "string"}}, ["text"])
    document: Document = {
        "openapi": "3.1.0",
        "info": {
            "title": "edgespec serve",
            "version": metadata.version("edgespec"),
            "description": "OpenAI's chat and completion routes over a speculative pair. A null is an absent "
            "field. Bodies "
            f"are at most {limits.body_bytes:,} bytes.",
        },
        "paths": {
            "/v1/chat/completions": {"post": _asks("ChatRequest", "ChatAnswer", "Answer a conversation")},
            "/v1/completions": {"post": _asks("CompletionRequest", "CompletionAnswer", "Continue a text")},
            "/v1/models": {"get": _gets("The model that is served", _listed())},
            "/v1/models/{model}": {
                "get": _gets("The model by its id", _ref("Model"), refusals=(404,))
                | {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]}
            },
            "/health": {
                "get": {
                    "summary": "Whether an answer could begin",
                    "responses": {
                        "200": _json("It could.", _health()),
                        "503": _json("Loading, or shutting down.", _health()),
                        **_refused((403, 405, 421, 500)),
                    },
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Counts and times for Prometheus",
                    "responses": {
                        "200": {
                            "description": "Prometheus text",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        },
                        **_refused(_ANYWHERE),
                    },
                }
            },
        },
        "components": {"schemas": schemas},
    }
    if access.api_key is not None:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        document["paths"]["/health"]["get"]["security"] = []
    return document


def _asks(body: str, answer: str, summary: str) -> Document:
    stream = {
        "schema": {"type": "string", "description": "server-sent events: chunks, then [DONE]; an error may be the last"}
    }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {
            "200": {
                "description": "The answer; with stream, as it is written.",
                "content": {"application/json": {"schema": _ref(answer)}, "text/event-stream": stream},
            },
            **_refused((400, 404, 408, 413, 415, 429, 503, 504, *_ANYWHERE)),
        },
    }


def _gets(summary: str, schema: Document, refusals: tuple[int, ...] = ()) -> Document:
    return {"summary": summary, "responses": {"200": _json(summary, schema), **_refused((*refusals, *_ANYWHERE))}}


def _refused(statuses: tuple[int, ...]) -> Document:
    return {str(status): _json(_REFUSALS[status], _ref("Error")) for status in sorted(statuses)}


def _json(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _listed() -> Document:
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}},
    }


def _health() -> Document:
    return {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"enum": ["ready", "loading", "closing"]}},
    }


def _message() -> Document:
    return {
        "type": "object",
        "required": ["role", "content"],
        "properties": {"role": {"const": "assistant"}, "content": {"type": "string"}, "refusal": {"type": "null"}},
    }


def _answer(kind: str, said: Document, required: list[str]) -> Document:
    choice = {
        "type": "object",
        "required": ["index", "finish_reason", *required],
        "properties": {
            "index": {"const": 0},
            "finish_reason": {"enum": ["stop", "length"]},
            "logprobs": {"type": "null", "description": f"Always null: {NO_LOGPROBS}."},
            **said,
        },
    }
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": kind},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "system_fingerprint": {"type": "string"},
            "choices": {"type": "array", "minItems": 1, "maxItems": 1, "items": choice},
            "usage": _ref("Usage"),
        },
    }
