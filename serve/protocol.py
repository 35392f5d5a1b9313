"""What clients may ask: the bodies of OpenAI's two routes, field by field. What is not obeyed is refused.

The models below are also what /openapi.json describes. A null is an absent field, as OpenAI's clients send it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from .errors import ApiError, invalid, unsupported

REFUSED = {
    "tools": "neither engine parses tool calls",
    "tool_choice": "neither engine parses tool calls",
    "parallel_tool_calls": "neither engine parses tool calls",
    "functions": "neither engine parses function calls",
    "function_call": "neither engine parses function calls",
    "audio": "the models speak text alone",
    "modalities": "the models speak text alone",
    "prediction": "drafts are the server's own",
    "web_search_options": "nothing is fetched from the network",
    "store": "nothing is kept",
    "metadata": "nothing is kept",
    "reasoning_effort": "the models have no such control",
    "verbosity": "the models have no such control",
    "service_tier": "there is one",
    "moderation": "nothing is moderated",
    "prompt_cache_retention": "what is cached is the server's own affair",
    "best_of": "one answer is written a request",
    "echo": "the prompt is not sent back",
    "suffix": "text is continued, not filled in",
}
"""Fields of OpenAI's that are known, and why they are not obeyed; any other is refused without a reason."""

NO_LOGPROBS = (
    "no log-probabilities are handed out, of an answer's tokens or of others, by any mode of this server: a step that "
    "verifies a draft's tokens keeps which ones it took, not their distributions, and modes that decode plainly are "
    "held to the same, so that answers have the same fields in every mode"
)
"""Of logprobs and top_logprobs, for the refusal and for /openapi.json."""

MOST_STOPS = 16
MOST_MESSAGES = 4096

Text = Annotated[str, StringConstraints(min_length=1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TextPart(_Body):
    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn. developer is system by a newer name."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def plain(self) -> dict[str, str]:
        """As a chat template wants it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text}


class StreamOptions(_Body):
    """include_usage: a last chunk with the counts. include_draft, an extension: every chunk says in `from_draft`
    whether the draft proposed its tokens, and in `tokens` how many there are."""

    include_usage: bool | None = None
    include_draft: bool | None = None
    include_obfuscation: Literal[False] | None = None


class JsonSchema(_Body):
    name: Text
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(_Body):
    type: Literal["text"]


class JsonObjectFormat(_Body):
    type: Literal["json_object"]


class JsonSchemaFormat(_Body):
    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class _Common(_Body):
    """top_k, min_p and repetition_penalty are extensions, named as elsewhere. user, safety_identifier and
    prompt_cache_key tell clients apart when turns are given; nothing else is done with them. service_tier, n and store
    take the values that change nothing."""

    model: Text
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, lt=2**31)
    min_p: float | None = Field(None, ge=0, lt=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=100)
    logit_bias: (
        dict[Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None
    ) = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Text | Annotated[list[Text], Field(max_length=MOST_STOPS)] | None = None
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Common:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options are for a stream; set stream to true, or leave them out")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_draft(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_draft)

    @property
    def client(self) -> str | None:
        return self.user or self.safety_identifier or self.prompt_cache_key


class ChatBody(_Common):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    response_format: ResponseFormat | None = None
    logprobs: Literal[False] | None = Field(None, description=f"Only false: {NO_LOGPROBS}.")
    top_logprobs: Literal[0] | None = Field(None, description=f"Only 0: {NO_LOGPROBS}.")

    @model_validator(mode="after")
    def _one_limit(self) -> ChatBody:
        both = self.max_tokens is not None and self.max_completion_tokens is not None
        if both and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens are the same limit; give one of them")
        return self

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def schema(self) -> Mapping[str, Any] | None:  # type: ignore[override]
        """The JSON schema that the answer must follow."""
        if isinstance(self.response_format, JsonSchemaFormat):
            return self.response_format.json_schema.schema_
        return {"type": "object"} if isinstance(self.response_format, JsonObjectFormat) else None


class CompletionBody(_Common):
    """POST /v1/completions. max_tokens is 16 unless given, as with OpenAI."""

    prompt: Text
    logprobs: None = Field(None, description=f"Only null: {NO_LOGPROBS}.")

    @property
    def limit(self) -> int | None:
        return 16 if self.max_tokens is None else self.max_tokens

    @property
    def schema(self) -> Mapping[str, Any] | None:  # type: ignore[override]
        return None


B = TypeVar("B", ChatBody, CompletionBody)

_HARMLESS: dict[str, tuple[Any, ...]] = {
    "service_tier": ("auto", "default"),
    "store": (False,),
    "modalities": (["text"],),
    "best_of": (1,),
    "echo": (False,),
    "tools": ([],),
    "tool_choice": ("none",),
    "metadata": ({},),
    "suffix": ("",),
}
"""Values of refused fields that ask for what is done anyway."""


def read(body: bytes, model: type[B]) -> B:
    """The request in `body`. Raises ApiError (400) that names the field at fault; nothing of the input is quoted."""
    try:
        fields = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise invalid("the body is no JSON document", code="invalid_json") from error
    if not isinstance(fields, dict):
        raise invalid("the body must be a JSON object", code="invalid_json")
    fields = {name: value for name, value in fields.items() if value is not None}
    if isinstance(turns := fields.get("messages"), list):  # clients send an answer's message back as it came
        fields["messages"] = [
            {name: value for name, value in turn.items() if value is not None or name in Message.model_fields}
            if isinstance(turn, dict)
            else turn
            for turn in turns
        ]
    for name in fields.keys() & REFUSED.keys() - model.model_fields.keys():
        if any(
            type(fields[name]) is type(harmless) and fields[name] == harmless for harmless in _HARMLESS.get(name, ())
        ):
            del fields[name]
    for name in fields:
        if name not in model.model_fields:
            if name in REFUSED:
                raise unsupported(name, REFUSED[name])
            raise ApiError(400, f"there is no field '{_short(name)}'", param=_short(name), code="unknown_parameter")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> ApiError:
    """The first thing wrong, in a sentence."""
    first = min(error.errors(include_url=False, include_input=False), key=lambda one: -_weight(one))
    place = [str(part) for part in first["loc"] if str(part) not in _UNIONS]
    place = [part for index, part in enumerate(place) if index == 0 or part != place[index - 1]]  # a union's tag
    param = ".".join(place) or None
    where = place[0] if place else ""
    if where == "n":
        return unsupported("n", "one answer is written a request")
    if where == "stop":
        return invalid(f"'stop' is a string that is not empty, or a list of at most {MOST_STOPS} such strings", "stop")
    if where in ("logprobs", "top_logprobs"):
        return unsupported(where, NO_LOGPROBS)
    if "content" in place and first["type"] == "literal_error" and place[-1] == "type":
        return unsupported(param or "messages", "the models read text alone, no images, audio or files")
    if where == "messages" and first["type"] == "literal_error" and place[-1] == "role":
        return invalid(f"'{param}': roles are system, developer, user and assistant", param)
    if where == "messages" and place[-1] in _MESSAGE_REFUSED:
        return unsupported(param or "messages", _MESSAGE_REFUSED[place[-1]])
    if first["type"] == "missing":
        return invalid(f"the field '{param}' is missing", param, code="missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return ApiError(
            400, f"there is no field '{_short(param or '')}'", param=_short(param or ""), code="unknown_parameter"
        )
    if param == "prompt":
        return invalid(
            "the prompt must be one string that is not empty; lists of prompts or tokens are not supported", "prompt"
        )
    message = first["msg"].removeprefix("Value error, ")
    return invalid(f"'{param}': {message[:1].lower()}{message[1:]}" if param else message, param)


_MESSAGE_REFUSED = {
    "name": "chat templates are given role and content",
    "tool_calls": REFUSED["tools"],
    "tool_call_id": REFUSED["tools"],
    "function_call": REFUSED["functions"],
    "audio": REFUSED["audio"],
    "refusal": "chat templates are given role and content",
}

_UNIONS = {"str", "list[TextPart]", "text", "json_object", "json_schema-", "constrained-str", "[key]"}
"""Names that pydantic puts into a place for the branch of a union it tried."""


def _weight(error: Any) -> int:
    """Of the branches of a union that failed, the one that came furthest says what is wrong."""
    return len(error["loc"]) - (
        100 if error["type"] in ("string_type", "list_type") and "content" in error["loc"] else 0
    )


def _short(name: str) -> str:
    return name if len(name) <= 64 else name[:63] + "…"
