"""What a server is told before it starts, and what it refuses to start with."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from edgespec.errors import EdgespecError

LEAST_KEY = 16
"""Characters of an API key: fewer could be tried out."""


@dataclass(frozen=True)
class Limits:
    """Bounds of what one request, and all of them together, may take.

    waiting: requests in line; one more is refused with 429. body_bytes: of a request, 413 beyond. prompt_tokens: None
    for
    what the model's context allows. answer_tokens: of one answer; also what a chat that names no limit gets. queue_s,
    answer_s: seconds that a request may wait, and be answered. body_s: in which a body must have arrived. send_s: in
    which a client must take what it is sent. grace_s: what running answers get to finish at shutdown. connections: open
    at once.
    """

    waiting: int = 64
    body_bytes: int = 1_000_000
    prompt_tokens: int | None = None
    answer_tokens: int = 2048
    queue_s: float = 120.0
    answer_s: float = 600.0
    body_s: float = 30.0
    send_s: float = 30.0
    grace_s: float = 10.0
    connections: int = 1024

    def __post_init__(self) -> None:
        for name in ("waiting", "body_bytes", "prompt_tokens", "answer_tokens", "connections"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EdgespecError(f"the limit {name} must be at least 1, not {value}")
        for name in ("queue_s", "answer_s", "body_s", "send_s"):
            if not getattr(self, name) > 0:
                raise EdgespecError(f"the limit {name} must be above 0 seconds, not {getattr(self, name)}")
        if self.grace_s < 0:
            raise EdgespecError(f"the limit grace_s must be 0 seconds or more, not {self.grace_s}")


@dataclass(frozen=True)
class Access:
    """Who may ask. host: the address to listen on. api_key: what clients must show; None for nothing. hosts: further
    names by which clients may call this server (the Host header), beside localhost and plain addresses."""

    host: str = "127.0.0.1"
    api_key: str | None = None
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.api_key is not None and (len(self.api_key) < LEAST_KEY or not _sendable(self.api_key)):
            raise EdgespecError(
                f"an API key has at least {LEAST_KEY} printable ASCII characters without blanks, and the one given has "
                f'{len(self.api_key)} or holds others; make one with: python -c "import secrets; '
                'print(secrets.token_urlsafe(32))"'
            )
        if not self.loopback and self.api_key is None:
            raise EdgespecError(
                f"'{self.host}' can be reached from other machines, and no API key was given; put one into a file and "
                "name it with --api-key-file, or listen on 127.0.0.1"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Of an address, or the name localhost; any other name may be anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _sendable(key: str) -> bool:
    return key.isascii() and all(33 <= ord(letter) <= 126 for letter in key)


@dataclass(frozen=True)
class Served:
    """What is served, and how requests are read. name: the model's id. raw_chat: a model without a chat template
    answers chats all the same, their messages joined to one text. temperature: of requests that name none, 1 by
    OpenAI's convention. log_prompts: prompts and answers go to the log too."""

    name: str
    raw_chat: bool = False
    temperature: float = 1.0
    log_prompts: bool = False
