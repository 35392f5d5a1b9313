"""Does a server live long under load? Clients that never pause, for minutes; then its process is killed and restarted.

    python examples/serve_soak.py PAIR [--clients 64] [--seconds 300] [--batch N] [--starts 3] [-- OPTIONS OF serve]

`edgespec serve PAIR` runs as a process of its own. Each client asks again as soon as it has its answer: whole ones,
streams, some with a stop string, and streams that it hangs up on after a few pieces. No two prompts are the same, so no
cache of prefixes holds them all. The line has room for three quarters of the clients: some are refused with 429.

Before that, prompts of up to --lengths words are answered one by one: OpenVINO's CPU plugin and oneDNN keep what they
compile for a pass of each length, of the draft's too, up to bounds of their own, and what that takes is told apart from
the rest.

What is told: whether memory is flat (the slope over answers, of the last two thirds; the first third is the warm-up),
errors other than 429, how evenly the clients were served, how soon a slot is free after a hang-up, and the seconds from
a SIGKILL in mid-answer to the next start's being ready. Exit code 1 when one of it is not as it should be. The table
goes to stderr, the last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from scipy import stats

from edgespec.bench import load_suite
from edgespec.console import Terminal
from edgespec.loadtest import Level
from edgespec.loadtest.client import Target, ask
from edgespec.loadtest.load import offer
from edgespec.resources import anonymous_bytes

MIX = {"whole": 3, "stream": 4, "stop": 1, "hang-up": 2}
"""Kinds of requests, and how many of ten."""
BLOCKS = 12
"""Into which the measured time is cut: their medians are fitted, as neighbouring samples are alike."""
READY_S = 5.0
FREE_S = 0.5
"""Of a step and of noticing that a client is gone."""


# ---- the server ------------------------------------------------------------------------------------------------------


class Server:
    """`edgespec serve` as a process; what it logs is kept in a file."""

    def __init__(self, pair: Path, log: Path, options: Sequence[str]) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-m", "edgespec", "serve", str(pair), "--port", "0", "--json", *options]
        with log.open("ab") as file:
            self._started = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=file,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        assert self._started.stdout is not None
        line = self._started.stdout.readline()
        self.ready_s = time.perf_counter() - began
        if not line:
            raise SystemExit(f"the server did not start; its log: {log.read_text(encoding='utf-8')[-2000:]}")
        told = json.loads(line)
        self.url: str = told["base_url"]
        self.model: str = told["model"]
        self.context: int | None = httpx.get(f"{self.url}/models").json()["data"][0]["context"]
        self.process = psutil.Process(told["pid"])  # on Windows a virtual environment's Python is its child

    def sample(self) -> tuple[int, int, int]:
        """Bytes of anonymous memory, open files (handles on Windows), threads."""
        with self.process.oneshot():
            files = self.process.num_handles() if os.name == "nt" else self.process.num_fds()
            return anonymous_bytes(self.process), files, self.process.num_threads()

    def kill(self) -> None:
        self.process.kill()
        self._started.wait(30)

    def end(self) -> int:
        """Ask it to end, as a service manager does; its exit code."""
        self._started.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        return self._started.wait(60)


# ---- the clients -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Varied(Target):
    """A target whose requests carry further fields."""

    more: dict[str, Any] = field(default_factory=dict)

    def body(self, prompt: str) -> dict[str, Any]:
        return super().body(prompt) | self.more


@dataclass
class Seen:
    """What the clients saw. served: of each client, the requests whose answer began."""

    outcomes: Counter[str] = field(default_factory=Counter)
    served: Counter[int] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    first_failure: str | None = None

    @property
    def answers(self) -> int:
        return sum(self.served.values())

    def note(self, kind: str, client: int, status: int | None, error: str | None, wall_s: float) -> bool:
        if status == 200 and error is None:
            self.outcomes[kind] += 1
            self.served[client] += 1
            self.waits_s.append(wall_s)
            return True
        self.outcomes["429" if status == 429 else "failed"] += 1
        if status != 429:
            self.first_failure = self.first_failure or f"{kind}: {status} {error}"
        return False


class Clients:
    """Their requests: the kind, the prompt, the seed of each is drawn, the same for the same seed."""

    def __init__(self, http: httpx.AsyncClient, server: Server, max_tokens: int, seed: int) -> None:
        self._http = http
        self._server = server
        self._max_tokens = max_tokens
        self._draw = random.Random(seed)
        most = (server.context or 4096) // 2 - max_tokens  # characters; a token is one at least
        self._texts = [prompt.text[:most] for prompt in load_suite("code").prompts]
        self._number = 0
        self.seen = Seen()

    async def send(self, client: int, due: float) -> bool:
        """One request; whether it was answered."""
        self._number += 1
        draw, began = self._draw, time.perf_counter()
        kind = draw.choices(list(MIX), weights=list(MIX.values()))[0]
        prompt = f"# {self._number}\n{draw.choice(self._texts)}"
        more: dict[str, Any] = {"temperature": draw.choice((0, 0.8)), "seed": self._number}
        if kind == "stop":
            more["stop"] = ["\n", "return"]
        status, error = await (
            self._hung_up(prompt, more, draw.randint(1, 4))
            if kind == "hang-up"
            else self._whole(prompt, more)
            if kind == "whole"
            else self._streamed(prompt, more)
        )
        return self.seen.note(kind, client, status, error, time.perf_counter() - began)

    def _target(self, more: dict[str, Any], max_tokens: int | None = None) -> Varied:
        return Varied(self._server.url, self._server.model, False, max_tokens or self._max_tokens, 0.0, more)

    async def _streamed(self, prompt: str, more: dict[str, Any]) -> tuple[int | None, str | None]:
        reply = await ask(self._http, self._target(more), prompt)
        return reply.status, reply.error

    async def _whole(self, prompt: str, more: dict[str, Any]) -> tuple[int | None, str | None]:
        target = self._target(more | {"stream": False, "stream_options": None})
        try:
            reply = await self._http.post(target.route, json=target.body(prompt))
            return reply.status_code, None if reply.status_code == 200 else reply.text
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}"

    async def _hung_up(
        self, prompt: str, more: dict[str, Any], pieces: int, max_tokens: int | None = None
    ) -> tuple[int | None, str | None]:
        target = self._target(more, max_tokens)
        try:
            async with self._http.stream("POST", target.route, json=target.body(prompt)) as reply:
                if reply.status_code != 200:
                    return reply.status_code, (await reply.aread()).decode("utf-8", "replace")
                async for line in reply.aiter_lines():
                    pieces -= line.startswith("data:")
                    if pieces <= 0:
                        break  # leaving before the end closes the connection
                return 200, None
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}"

    async def every_length(self, most: int) -> None:
        """Read prompts of 1 to `most` words that have no beginning in common and repeat nothing, and answer each: a
        draft model, too, then reads most of them, where a hybrid would else copy."""
        draw = random.Random(most)
        words = sorted({word for text in self._texts for word in re.findall("[a-z]{2,}", text)})
        for number in range(1, most + 1):
            target = self._target({"stream": False, "stream_options": None, "temperature": 0.8, "seed": number})
            prompt = f"{number}: {' '.join(draw.choices(words, k=number))}"
            await self._http.post(target.route, json=target.body(prompt))

    async def leave(self) -> None:
        """Hang up on a long answer at its first piece."""
        await self._hung_up("def add(a, b):\n", {"temperature": 0.8}, 1, max_tokens=400)

    async def gauge(self, name: str) -> float:
        """A figure of /metrics."""
        text = (await self._http.get(self._server.url.removesuffix("/v1") + "/metrics")).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


# ---- what it says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trend:
    """Of memory over answers, in the measured time. ci95: of the slope, by Student's t over the medians of blocks.

    verdict: "flat" when the whole interval is below `tolerance` of the memory there was, over the time measured;
    "grows" when it is above 0 and reaches beyond that; "not decided" when it is too wide to say.
    """

    start_bytes: float
    end_bytes: float
    answers: int
    bytes_per_1000_answers: float
    ci95: tuple[float, float]
    verdict: str


def trend(samples: Sequence[tuple[int, int]], tolerance: float) -> Trend | None:
    """samples: (answers so far, bytes), in order of time. The first third is dropped. None for too few."""
    kept = np.array(samples[len(samples) // 3 :], dtype=float)
    if len(kept) < 2 * BLOCKS:
        return None
    blocks = np.array([np.median(block, axis=0) for block in np.array_split(kept, BLOCKS)])
    if np.ptp(blocks[:, 0]) == 0:
        return None
    fit = stats.linregress(blocks[:, 0], blocks[:, 1])
    reach = float(stats.t.ppf(0.975, BLOCKS - 2)) * fit.stderr
    low, high = float(fit.slope - reach), float(fit.slope + reach)
    answers = kept[-1, 0] - kept[0, 0]
    allowed = tolerance * blocks[0, 1] / answers
    verdict = "flat" if high <= allowed else "grows" if low > 0 else "not decided"
    return Trend(
        start_bytes=float(blocks[0, 1]),
        end_bytes=float(blocks[-1, 1]),
        answers=int(answers),
        bytes_per_1000_answers=1000 * float(fit.slope),
        ci95=(1000 * low, 1000 * high),
        verdict=verdict,
    )


@dataclass
class Watched:
    """A sample a second of a server under load: (seconds, answers, bytes, open files, threads)."""

    rows: list[tuple[float, int, int, int, int]] = field(default_factory=list)

    async def watch(self, server: Server, seen: Seen, every_s: float) -> None:
        began = time.perf_counter()
        while True:
            self.rows.append((round(time.perf_counter() - began, 2), seen.answers, *server.sample()))
            await asyncio.sleep(every_s)

    def memory(self, tolerance: float) -> Trend | None:
        return trend([(row[1], row[2]) for row in self.rows], tolerance)

    def range_of(self, column: int) -> tuple[int, int] | None:
        """Least and most after the warm-up."""
        values = [row[column] for row in self.rows[len(self.rows) // 3 :]]
        return (int(min(values)), int(max(values))) if values else None


async def under_load(server: Server, wish: argparse.Namespace) -> dict[str, Any]:
    """The load and, when it is over, what a hang-up costs."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx.Timeout(300, pool=None)
    async with httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as http:
        clients = Clients(http, server, wish.max_tokens, wish.seed)
        seen, watched = clients.seen, Watched()
        start = server.sample()[0]
        await clients.every_length(wish.lengths)
        lengths = (start, server.sample()[0])
        watching = asyncio.ensure_future(watched.watch(server, seen, min(1.0, wish.seconds / 60)))
        await offer(Level("closed", wish.clients), wish.seconds, wish.seed, clients.send, time.perf_counter)
        watching.cancel()
        freed = [await _freed_s(clients) for _ in range(5)]
        left = [await clients.gauge(f"edgespec_{name}") for name in ("running", "waiting")]
        gone = await clients.gauge('edgespec_answers_total{ended="client_gone"}')
    served = [seen.served.get(number, 0) for number in range(wish.clients)]
    memory = watched.memory(wish.tolerance)
    return {
        "answers": seen.answers,
        "outcomes": dict(seen.outcomes),
        "first_failure": seen.first_failure,
        "bytes_around_lengths": lengths,
        "memory": asdict(memory) if memory else None,
        "open_files": watched.range_of(3),
        "threads": watched.range_of(4),
        "served_by_client": {"least": min(served), "most": max(served)},
        "wall_s": {name: float(np.quantile(seen.waits_s, q)) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1))}
        if seen.waits_s
        else None,
        "hang_ups_noticed": int(gone),
        "freed_s": [round(seconds, 4) for seconds in freed],
        "left": {"running": int(left[0]), "waiting": int(left[1])},
        "samples": watched.rows,
    }


async def _freed_s(clients: Clients) -> float:
    """Seconds from a hang-up until the server says that nothing runs."""
    await clients.leave()
    began = time.perf_counter()
    while await clients.gauge("edgespec_running") and time.perf_counter() - began < 30:
        await asyncio.sleep(0.002)
    return time.perf_counter() - began


def killed_in_mid_answer(server: Server) -> None:
    """SIGKILL (TerminateProcess on Windows) after an answer's first piece."""
    body = {"model": server.model, "prompt": "def add(a, b):\n", "max_tokens": 400, "stream": True}
    with httpx.stream("POST", f"{server.url}/completions", json=body, timeout=60) as reply:
        assert next(reply.iter_lines()).startswith("data:")
        server.kill()


def soak(wish: argparse.Namespace) -> dict[str, Any]:
    """All of it. wish: see `arguments`."""
    batch = ["--batch", str(wish.batch)] if wish.batch else []
    waiting = max(1, wish.clients * 3 // 4 - (wish.batch or 1))
    options = [*batch, "--max-waiting", str(waiting), *wish.serve]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        server = Server(wish.pair, log, options)
        first_s = server.ready_s
        try:
            found = asyncio.run(under_load(server, wish))
            restarts = []
            for _ in range(wish.starts):
                killed_in_mid_answer(server)
                server = Server(wish.pair, log, options)
                restarts.append(round(server.ready_s, 2))
            code = server.end()
        finally:
            if server.process.is_running():
                server.kill()
        tracebacks = log.read_text(encoding="utf-8", errors="replace").count("Traceback")
    asked = {
        name: getattr(wish, name)
        for name in ("clients", "seconds", "batch", "max_tokens", "lengths", "seed", "tolerance")
    }
    document = {
        "asked": asked | {"waiting": waiting, "serve": wish.serve},
        **found,
        "first_ready_s": round(first_s, 2),
        "ready_after_kill_s": restarts,
        "exit_code": code,
        "tracebacks": tracebacks,
    }
    return document | {"wrong": judged(document)}


def judged(document: dict[str, Any]) -> list[str]:
    """What is not as it should be; empty when all is well."""
    wrong = []
    memory, served = document["memory"], document["served_by_client"]
    if memory is None or memory["verdict"] != "flat":
        wrong.append(f"memory: {memory['verdict'] if memory else 'too few samples'}")
    if failed := document["outcomes"].get("failed"):
        wrong.append(f"{failed} requests failed other than with 429, the first: {document['first_failure']}")
    if served["least"] * 2 < served["most"]:
        wrong.append(f"a client was served {served['least']} times and another {served['most']}")
    if any(document["left"].values()) or max(document["freed_s"]) > FREE_S:
        wrong.append(f"slots: {document['left']} left, freed after {max(document['freed_s'])} s at most")
    if any(seconds > READY_S for seconds in document["ready_after_kill_s"]):
        wrong.append(f"a restart took more than {READY_S:g} s")
    if document["exit_code"] or document["tracebacks"]:
        wrong.append(f"exit code {document['exit_code']}, {document['tracebacks']} tracebacks in the log")
    return wrong


def table(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What `document` says, for people."""
    memory, served, outcomes = document["memory"], document["served_by_client"], document["outcomes"]
    wall = document["wall_s"] or {}
    said = "too few samples"
    if memory:
        low, high = (bound / 1e6 for bound in memory["ci95"])
        said = (
            f"{memory['start_bytes'] / 1e6:.1f} to {memory['end_bytes'] / 1e6:.1f} MB over {memory['answers']:,} "
            f"answers; {memory['bytes_per_1000_answers'] / 1e6:+.2f} MB a 1,000 answers [{low:+.2f}, {high:+.2f}]: "
            f"{memory['verdict']}"
        )
    before, after = document["bytes_around_lengths"]
    return [
        ("prompts of every length", f"{before / 1e6:.1f} to {after / 1e6:.1f} MB"),
        ("answers", f"{document['answers']:,}; " + ", ".join(f"{k} {v:,}" for k, v in sorted(outcomes.items()))),
        ("seconds each", ", ".join(f"{name} {seconds:.2f}" for name, seconds in wall.items())),
        ("memory", said),
        ("open files, threads", f"{document['open_files']}, {document['threads']}"),
        ("served by client", f"{served['least']} to {served['most']}"),
        ("free after a hang-up", f"{max(document['freed_s']) * 1e3:.0f} ms at most; left {document['left']}"),
        ("ready after SIGKILL", f"{document['ready_after_kill_s']} s; the first start {document['first_ready_s']} s"),
        ("exit code", f"{document['exit_code']}; {document['tracebacks']} tracebacks in the log"),
        ("wrong", "; ".join(document["wrong"]) or "nothing"),
    ]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--lengths", type=int, default=256, help="words of the longest prompt before the load")
    parser.add_argument("--starts", type=int, default=3, help="how often it is killed and started again")
    parser.add_argument("--tolerance", type=float, default=0.02, help="growth of memory that is flat, as a share")
    parser.add_argument("--seed", type=int, default=0)
    own, serve = list(words), list[str]()
    if "--" in own:
        own, serve = own[: own.index("--")], own[own.index("--") + 1 :]
    found = parser.parse_args(own)
    found.serve = serve
    return found


def main() -> None:
    wish = arguments(sys.argv[1:])
    document = soak(wish)
    Terminal().table(f"{wish.clients} clients, {wish.seconds:g} s", ("what", "seen"), table(document))
    print(json.dumps(document))
    sys.exit(1 if document["wrong"] else 0)


if __name__ == "__main__":
    main()
