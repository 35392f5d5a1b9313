"""Answers in OpenAI's shape: whole, or chunk by chunk, for chats and for completions."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from edgespec.runtime import Piece, Result

FINISH = {"stop": "stop", "length": "length"}
"""Our reasons by OpenAI's names."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """How one answer is written. chat: as a chat's, else as a completion's. usage, draft: what its chunks carry beside
    text."""

    model: str
    chat: bool
    fingerprint: str
    usage: bool = False
    draft: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, result: Result) -> Document:
        """A finished answer in one document."""
        said: Document = (
            {"message": {"role": "assistant", "content": result.text, "refusal": None}}
            if self.chat
            else {"text": result.text}
        )
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": FINISH[result.finish_reason]}
        return {
            **self._head("chat.completion" if self.chat else "text_completion"),
            "choices": [choice],
            "usage": usage(result),
        }

    def opening(self) -> list[Document]:
        """What comes before the first text: a chat's role."""
        return [self._chunk({"role": "assistant", "content": "", "refusal": None})] if self.chat else []

    def piece(self, piece: Piece) -> Document:
        return self._chunk({"content": piece.text} if self.chat else piece.text, piece=piece)

    def closing(self, result: Result) -> list[Document]:
        """The reason it ended and, where asked for, the counts."""
        chunks = [self._chunk({} if self.chat else "", finish=FINISH[result.finish_reason])]
        if self.usage:
            chunks.append({**self._head(self._chunk_kind), "choices": [], "usage": usage(result)})
        return chunks

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> Document:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _chunk(self, said: Any, *, finish: str | None = None, piece: Piece | None = None) -> Document:
        choice: Document = {
            "index": 0,
            "delta" if self.chat else "text": said,
            "logprobs": None,
            "finish_reason": finish,
        }
        if self.draft and piece is not None:
            choice |= {"from_draft": piece.drafted > 0, "tokens": len(piece.token_ids)}
        document = {**self._head(self._chunk_kind), "choices": [choice]}
        return document | {"usage": None} if self.usage else document


def usage(result: Result) -> Document:
    """Counts of tokens. Accepted ones are those of the answer that the draft proposed; rejected ones were proposed and
    thrown away, are not among completion_tokens, and null where the engine does not tell."""
    prompt, answer = result.metrics.prompt_tokens, len(result.token_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "completion_tokens_details": {
            "accepted_prediction_tokens": result.metrics.draft_tokens,
            "rejected_prediction_tokens": result.metrics.rejected_tokens,
            "reasoning_tokens": 0,
            "audio_tokens": 0,
        },
        "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": 0},
    }


_ESCAPED = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"})
"""What JSON may hold as it is and Python's str.splitlines takes for the end of a line."""


def event(document: Document | str) -> bytes:
    """One server-sent event, whole for readers too that look for lines with str.splitlines, as httpx's do: by the
    standard lines end with CR and LF alone, and those JSON escapes by itself."""
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False, allow_nan=False)
    return f"data: {text.translate(_ESCAPED)}\n\n".encode()


DONE = event("[DONE]")
