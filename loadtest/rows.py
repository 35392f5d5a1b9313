"""rows.jsonl: what was asked and what came, a line a request, flushed as it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA = "edgespec.loadtest.rows/1"
Kind = Literal["closed", "open"]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LevelRecord(_Line):
    """One load. closed: `amount` clients, each asks again when it has its answer. open: `amount` requests a second, at
    random times (Poisson), whatever comes back."""

    kind: Kind
    amount: float
    name: str


class Header(_Line):
    phase: Literal["header"] = "header"
    schema_name: str = SCHEMA
    started_at: str
    url: str
    model: str
    route: Literal["chat", "completions"]
    levels: list[LevelRecord]
    seconds: float
    max_tokens: int
    temperature: float
    timeout_s: float
    suite: str
    prompts: int
    prompts_sha256: str
    seed: int
    machine: dict[str, Any]
    versions: dict[str, str]


class Span(_Line):
    """From when to when a level was offered, in seconds of the run's clock."""

    phase: Literal["level"] = "level"
    level: str
    started_s: float
    ended_s: float


class Reply(_Line):
    """What became of one request, by the client's clock. first_s: its first text. tokens, prompt_tokens, accepted: as
    the server counts them; chunks: pieces of text that came. error: what happened instead of an answer, status its HTTP
    status (None: no reply)."""

    sent_s: float
    first_s: float | None = None
    ended_s: float
    status: int | None = None
    error: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    tokens: int | None = None
    accepted: int | None = None
    chunks: int = 0


class Row(Reply):
    """A reply in a run, in seconds from its start. due_s: when the request was meant to be sent: what the client itself
    was late is part of what it waited."""

    phase: Literal["warmup", "measure"]
    level: str
    prompt: str
    client: int
    due_s: float

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.due_s

    @property
    def wall_s(self) -> float:
        return self.ended_s - self.due_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds a token after the first; None for an answer of one."""
        if self.first_s is None or self.tokens is None or self.tokens < 2:
            return None
        return (self.ended_s - self.first_s) / (self.tokens - 1)


Line = Annotated[Header | Span | Row, Field(discriminator="phase")]
_LINES: TypeAdapter[Line] = TypeAdapter(Line)


class Journal:
    """Open for appending; every line is on its way to the disk before the next request is looked at."""

    def __init__(self, path: Path, header: Header) -> None:
        self.lines: list[Line] = []
        self._file: IO[str] = path.open("x", encoding="utf-8", newline="\n")
        self.append(header)

    def append(self, line: Line) -> None:
        self._file.write(json.dumps(line.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        self.lines.append(line)

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path) -> list[Line]:
    """Every whole line of a rows file."""
    content = path.read_bytes()
    return [_LINES.validate_json(text) for text in content[: content.rfind(b"\n") + 1].splitlines()]
