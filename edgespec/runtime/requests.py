"""What a call asks for, checked before it waits for its turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, cast

from ..engine import grammar
from ..errors import EdgespecError
from ..sampling import NO_BIAS, Sampling

MAX_NEW_TOKENS = 128


class Options(TypedDict, total=False):
    """Of every call that answers. max_new_tokens: at most; the model's context may end the answer before. temperature 0
    is greedy. seed: repeats a sampled answer in a mode that no clock decides, such as native-draft; in auto the
    governor's clock decides what is drafted, and so which numbers are drawn. stop: strings that end the answer and do
    not belong to it. reuse_prefix: True reads no part of the prompt again that a cache holds (refused where nothing can
    hold it), False reads all of it anew, "where possible" leaves the choice of a mode alone and keeps what that one
    can, as a chat does unasked. json_schema (a dict or text), regex, lark_grammar: at most one, what the answer must
    follow. For the others see edgespec.sampling.Sampling."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    json_schema: Mapping[str, Any] | str | None
    regex: str | None
    lark_grammar: str | None
    reuse_prefix: bool | Literal["where possible"] | None


@dataclass(frozen=True)
class Request:
    """prompt: the ids to continue, made when the request's turn has come. grammar: as engine/grammar.py wants it, None
    for none. reuse_prefix: keep what a cache holds of this prompt, as a chat does; prefix_asked: what was said of it
    in so many words, None for nothing. Stop strings are in `sampling`."""

    prompt: Callable[[], list[int]]
    max_new_tokens: int
    sampling: Sampling
    grammar: str | None = None
    reuse_prefix: bool = False
    prefix_asked: bool | None = None
    chat: bool = False


def make_request(prompt: Callable[[], list[int]], options: Options, *, chat: bool = False) -> Request:
    """Raises EdgespecError for what is out of range, and for an option there is not."""
    unknown = set(options) - set(Options.__annotations__)
    if unknown:
        raise EdgespecError(
            f"there is no option {', '.join(sorted(unknown))}; choose from {', '.join(Options.__annotations__)}"
        )
    count = options.get("max_new_tokens", MAX_NEW_TOKENS)
    if not 1 <= count < 2**31:
        raise EdgespecError(f"max_new_tokens must be at least 1, and below 2^31, not {count}")
    sampling = Sampling(
        temperature=options.get("temperature", 0.0),
        top_k=options.get("top_k", 0),
        top_p=options.get("top_p", 1.0),
        seed=options.get("seed"),
        min_p=options.get("min_p", 0.0),
        repetition_penalty=options.get("repetition_penalty", 1.0),
        presence_penalty=options.get("presence_penalty", 0.0),
        frequency_penalty=options.get("frequency_penalty", 0.0),
        logit_bias=options.get("logit_bias", NO_BIAS),
        stop_token_ids=options.get("stop_token_ids", ()),  # type: ignore[arg-type]
        stop_strings=options.get("stop", ()),  # type: ignore[arg-type]
    )
    asked = options.get("reuse_prefix")
    keeps = chat if asked is None else bool(asked)
    return Request(
        prompt, count, sampling, _grammar(options), keeps, None if asked == "where possible" else asked, chat
    )


def asked_for(sampling: Sampling) -> Options:
    """The options that ask for `sampling`: what `make_request` makes of them is the same again."""
    names = {of.name: "stop" if of.name == "stop_strings" else of.name for of in fields(sampling)}
    return cast(Options, {option: getattr(sampling, name) for name, option in names.items()})


def _grammar(options: Options) -> str | None:
    schema, regex, lark = (options.get(name) for name in ("json_schema", "regex", "lark_grammar"))
    if sum(item is not None for item in (schema, regex, lark)) > 1:
        raise EdgespecError("json_schema, regex and lark_grammar exclude one another; give one of them")
    if schema is not None:
        return grammar.json_schema(schema)  # type: ignore[arg-type]
    if regex is not None:
        return grammar.regex(str(regex))
    return None if lark is None else grammar.lark(str(lark))
