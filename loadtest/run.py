"""A load test: who is asked and what, warm-up, level after level, and the files that come of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx

from edgespec import machine
from edgespec.errors import EdgespecError
from edgespec.pair import installed_versions
from edgespec.progress import SILENT, Progress
from edgespec.staging import require_absent, require_folder, write_atomically

from .client import Target, ask
from .load import Level, offer
from .page import render_page
from .report import build_report
from .rows import Header, Journal, Row, Span


@dataclass(frozen=True)
class Ask:
    """url: of the API, with its version. model: None for the server's first. chat: the chat route, or completions; None
    for what an edgespec server says its model is for, chat with any other. prompts: (id, text). sha256, suite: of them.
    warmup: requests before the first level, that count for nothing."""

    url: str
    levels: Sequence[Level]
    prompts: Sequence[tuple[str, str]]
    suite: str
    sha256: str
    seconds: float = 30.0
    model: str | None = None
    chat: bool | None = None
    max_tokens: int = 96
    temperature: float = 0.0
    timeout_s: float = 300.0
    api_key: str | None = None
    warmup: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels:
            raise EdgespecError("there is no load to offer; give --clients 1,4,16, --rate 0.5,2, or both")
        if not self.url.startswith(("http://", "https://")):
            raise EdgespecError(f"'{self.url}' is no URL; give one such as http://127.0.0.1:8000/v1")
        if not self.prompts:
            raise EdgespecError("there is no prompt to ask")
        if self.seconds <= 0 or self.timeout_s <= 0 or self.max_tokens < 1 or self.warmup < 0:
            raise EdgespecError("seconds and timeout must be above 0, max_tokens at least 1, warmup 0 or more")


def run_loadtest(wish: Ask, out: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Writes rows.jsonl, report.json and report.html into `out`, which must not exist yet; returns the report. Raises
    EdgespecError when the server cannot be reached or has no such model."""
    require_absent(out)
    require_folder(out.absolute().parent, out.name)
    return asyncio.run(_run(wish, out, progress))


async def _run(wish: Ask, out: Path, progress: Progress) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {wish.api_key}"} if wish.api_key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx.Timeout(wish.timeout_s, pool=None)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout, trust_env=False) as client:
        target = await _target(client, wish)
        header = Header(
            started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            url=target.url,
            model=target.model,
            route="chat" if target.chat else "completions",
            levels=[level.record for level in wish.levels],
            seconds=wish.seconds,
            max_tokens=wish.max_tokens,
            temperature=wish.temperature,
            timeout_s=wish.timeout_s,
            suite=wish.suite,
            prompts=len(wish.prompts),
            prompts_sha256=wish.sha256,
            seed=wish.seed,
            machine=machine.describe(),
            versions=installed_versions("httpx"),
        )
        await _warm_up(client, target, wish)
        out.mkdir()
        journal = Journal(out / "rows.jsonl", header)
        try:
            started = time.perf_counter()
            for number, level in enumerate(wish.levels):
                with progress.task(f"{level.words}, {wish.seconds:g} s"):
                    await _level(client, target, wish, level, wish.seed + number, journal, started)
        finally:
            journal.close()
            report = build_report(journal.lines)
            write_atomically(out / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
        write_atomically(out / "report.html", render_page(report))
        return report


async def _level(
    client: httpx.AsyncClient, target: Target, wish: Ask, level: Level, seed: int, journal: Journal, started: float
) -> None:
    def clock() -> float:
        return time.perf_counter() - started

    turn = itertools.cycle(wish.prompts)

    async def send(number: int, due: float) -> bool:
        name, prompt = next(turn)
        reply = await ask(client, target, prompt, clock)
        where = {"phase": "measure", "level": level.name, "prompt": name, "client": number, "due_s": due}
        journal.append(Row.model_validate(where | reply.model_dump()))
        return reply.error is None

    began = clock()
    await offer(level, wish.seconds, seed, send, clock)
    journal.append(Span(level=level.name, started_s=began, ended_s=clock()))


async def _warm_up(client: httpx.AsyncClient, target: Target, wish: Ask) -> None:
    for _, prompt in itertools.islice(itertools.cycle(wish.prompts), wish.warmup):
        reply = await ask(client, target, prompt)
        if reply.error is not None:
            raise EdgespecError(f"the server does not answer as it should, before any load: {reply.error}")


async def _target(client: httpx.AsyncClient, wish: Ask) -> Target:
    """Whom to ask, from what the server says of its models."""
    url = wish.url.rstrip("/")
    try:
        reply = await client.get(f"{url}/models")
    except httpx.HTTPError as error:
        raise EdgespecError(f"the server at {url} does not answer: {error or type(error).__name__}") from error
    if reply.status_code == 404 and not url.endswith(("/v1", "/v3")):
        raise EdgespecError(f"there is nothing at {url}/models; the URL ends in the API's version, such as {url}/v1")
    if reply.status_code != 200:
        raise EdgespecError(
            f"{url}/models answers with status {reply.status_code}; is the API key right (--api-key-file)?"
        )
    try:
        found = {str(model["id"]): model for model in reply.json()["data"]}
    except (ValueError, KeyError, TypeError) as error:
        raise EdgespecError(f"{url}/models does not answer as OpenAI's API does; is it such a server?") from error
    name = wish.model or next(iter(found), None)
    if name is None or name not in found:
        raise EdgespecError(f"the server has no model '{name}'; it has {', '.join(found) or 'none'}")
    chat = found[name].get("chat", True) if wish.chat is None else wish.chat
    return Target(url, name, bool(chat), wish.max_tokens, wish.temperature)
