"""Scripted engines for the bench: tokens, steps and times are known beforehand, nothing sleeps and nothing is timed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from edgespec.bench.engines import Backend
from edgespec.bench.isolation import EngineLost
from edgespec.bench.prompts import Prompt, Suite
from edgespec.bench.rows import Header, Line, Passes, Row, Session, Stop
from edgespec.bench.sensors import Reading
from edgespec.engine.step import Generation, Step
from edgespec.errors import EdgespecError

PLAIN_S = 0.040
TTFT_S = 0.100
QUIET = Reading(rss_bytes=10**9, energy_j=None, cpu_mhz=2400.0, temperature_c=None, other_load=0.0)
ACCEPTED = (1, 0, 1, 1)  # of a gamma-1 draft; each deeper position is accepted where this and its neighbours are


@dataclass
class Script:
    """What the scripted engines do, and what they were asked.

    speed: factor on plain's time by settings name, found through the property "NAME". fail: (mode, gamma) that raise.
    load_fail: modes that cannot be loaded. interrupt_after: Ctrl-C at this many measured generations.
    flip: (mode, place): that mode's answers differ from plain's from this token on. readings: what the sensors tell,
    one a row, then nothing. settled: how often a quiet machine was waited for. lose: lookup's next deaths.
    """

    speed: dict[str, float] = field(default_factory=lambda: {"default": 1.0, "f32": 0.6, "f32-dq128": 0.65})
    fail: set[tuple[str, int | None]] = field(default_factory=set)
    load_fail: set[str] = field(default_factory=set)
    interrupt_after: int | None = None
    flip: tuple[str, int] | None = None
    settings_flip: tuple[str, int] | None = None
    calls: list[tuple[str, str, int | None]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    asked: list[tuple[str, list[int], Any]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    settled: int = 0
    lose: int = 0
    opened: list[tuple[str, str]] = field(default_factory=list)
    closed: list[tuple[str, str]] = field(default_factory=list)


class ScriptedEngine:
    name = "scripted"
    has_chat_template = True

    def __init__(self, script: Script, mode: str, settings: str) -> None:
        self.script, self.mode, self.settings = script, mode, settings

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "".join(f"<{message['role']}>{message['content']}" for message in messages) + "<assistant>"

    def generate(
        self, prompt_ids: Sequence[int], max_new_tokens: int, *, gamma: int | None = None, sampling: Any = None
    ) -> Generation:
        script = self.script
        script.calls.append((self.mode, self.settings, gamma))
        script.asked.append((self.mode, list(prompt_ids), sampling))
        if script.interrupt_after is not None and len(script.calls) > script.interrupt_after:
            raise KeyboardInterrupt
        if self.mode == "lookup" and script.lose:
            script.lose -= 1
            raise EngineLost("the engine's process ended by signal 6: terminate called")
        if (self.mode, gamma) in script.fail:
            raise RuntimeError("Check 'x' failed\nsecond line")
        assert (gamma is not None) == (self.mode == "draft"), "gamma is the draft arm's"
        tokens = self.tokens(prompt_ids, max_new_tokens)
        plain_s = (
            PLAIN_S * script.speed.get(self.settings, 1.0) * (0.9 + 0.2 * random.Random(bytes(prompt_ids)).random())
        )
        steps, seconds = self._steps(tokens, plain_s, gamma)
        return Generation(tokens, steps, "length", TTFT_S, TTFT_S + seconds)

    def tokens(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]:
        draw = random.Random(bytes(prompt_ids))
        tokens = [draw.randrange(1000) for _ in range(max_new_tokens)]
        for flip, here in ((self.script.flip, self.mode), (self.script.settings_flip, self.settings)):
            if flip and flip[0] == here:
                tokens[flip[1] :] = [token + 1000 for token in tokens[flip[1] :]]
        return tokens

    def _steps(self, tokens: list[int], plain_s: float, gamma: int | None) -> tuple[list[Step], float]:
        steps, start, seconds, turn = [Step((tokens[0],), 0, 0)], 1, 0.0, 0
        while start < len(tokens):
            proposed = 0 if self.mode == "plain" else min(gamma or 5, len(tokens) - start - 1)
            accepted = min(proposed, (ACCEPTED[turn % 4] * (1 + turn % 3)))
            known = self.mode != "lookup"
            chunk = tuple(tokens[start : start + accepted + 1])
            steps.append(Step(chunk, proposed if known else None, accepted))
            seconds += plain_s * (1 + 0.05 * proposed + (0.02 * proposed if self.mode == "draft" else 0))
            start += accepted + 1
            turn += 1
        return steps, seconds

    def close(self) -> None:
        self.script.closed.append((self.mode, self.settings))


CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "f32": {"INFERENCE_PRECISION_HINT": "f32"},
    "f32-dq128": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
}


def _backend(script: Script, candidates: Mapping[str, Mapping[str, Any]] | None = None) -> Backend:
    offered = CANDIDATES if candidates is None else candidates

    def open_engine(
        pair: Any, *, engine: str, device: str, draft_device: str | None, mode: str, settings: Mapping[str, Any]
    ) -> ScriptedEngine:
        name = next((name for name, values in offered.items() if values == settings), "exact")
        if mode in script.load_fail:
            raise EdgespecError(f"the {mode} engine does not load")
        script.opened.append((mode, name))
        return ScriptedEngine(script, mode, name)

    def measure_costs(pair: Any, **how: Any) -> dict[str, dict[int, float]]:
        single = PLAIN_S * 0.6
        script.costs.append(how)
        return {
            "target": {n: single * (1 + 0.05 * (n - 1)) for n in how["lengths"]},
            "draft": {n - 1: single * 0.02 * (n - 1) for n in how["lengths"] if n > 1 and how["drafting"]},
        }

    def answer_together(
        pair: Any, *, device: str, settings: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> list[list[int]]:
        script.together.append(len(prompts))
        plain = ScriptedEngine(script, "together", next(name for name, values in offered.items() if values == settings))
        return [plain.tokens(prompt, max_new_tokens) for prompt in prompts]

    class ScriptedSensors:
        def start(self, pid: int | None = None) -> None:
            pass

        def stop(self) -> Reading:
            return script.readings.pop(0) if script.readings else QUIET

    def settle() -> None:
        script.settled += 1

    def check(device: str, mode: str) -> None:
        if device not in ("CPU", "GPU", "NPU"):
            raise EdgespecError(f"there is no device '{device}' on this machine")
        if device == "NPU" and mode == "lookup":
            raise EdgespecError("mode 'lookup' cannot run on NPU: it is ignored there")

    return Backend(
        open_engine=cast(Any, open_engine),
        measure_costs=cast(Any, measure_costs),
        measure_bandwidth=lambda device: 25e9,
        answer_together=answer_together,
        logit_gaps=lambda pair, *, device, places: [0.25] * len(places),
        settle=settle,
        sensors=ScriptedSensors,
        candidates=offered,
        machine={"cpu": "Scripted CPU <1>", "logical_cores": 2, "memory_bytes": 8 << 30, "on_battery": None},
        machine_fingerprint="0123456789abcdef",
        versions={"edgespec": "0.1.0", "openvino": "2026.4.1"},
        check=check,
    )


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def make_backend() -> Callable[..., Backend]:
    return _backend


@pytest.fixture
def suite() -> Suite:
    """Twelve prompts in three categories."""
    kinds = ("class", "function", "test")
    return Suite(
        "tiny", tuple(Prompt(f"{kinds[i % 3]}-{i:02}", kinds[i % 3], (f"prompt number {i}",), False) for i in range(12))
    )


@pytest.fixture
def make_header() -> Callable[..., Header]:
    def build(**changes: Any) -> Header:
        values: dict[str, Any] = {
            "started_at": "2026-11-21T10:00:00.000+00:00",
            "pair": {
                "name": "tiny-pair",
                "sha256": "ab" * 32,
                "target": {"source": "t", "parameters": 1000, "precision": "int8_asym", "weights_bytes": 10**9},
                "draft": {"source": "d", "parameters": 100, "precision": "int8_asym", "weights_bytes": 10**8},
            },
            "device": "CPU",
            "modes": ["plain", "draft"],
            "gammas": [2],
            "settings": "default",
            "candidates": {"default": {}},
            "suite": "code",
            "prompts_sha256": "cd" * 32,
            "prompt_ids": [f"p{i}" for i in range(12)],
            "cases": 12,
            "repetitions": 2,
            "max_repetitions": 2,
            "precision": 0.03,
            "max_new_tokens": 10,
            "seed": 0,
            "machine": {"cpu": "Scripted CPU"},
            "machine_fingerprint": "0123",
            "versions": {"openvino": "2026.4.1"},
        }
        values |= changes
        return Header(**(values | {"cases": changes.get("cases", len(values["prompt_ids"]))}))

    return build


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """A measured row of ten tokens; `seconds` is its wall clock."""

    def build(
        arm: str,
        prompt: str = "p0",
        repetition: int = 0,
        seconds: float | None = 1.0,
        phase: str = "measure",
        **more: Any,
    ) -> Row:
        values: dict[str, Any] = {
            "phase": phase,
            "case": prompt,
            "prompt": prompt,
            "category": "function",
            "arm": arm,
            "repetition": repetition,
            "order": 0,
            "session": 1,
            "started_at": "2026-11-21T10:00:01.000+00:00",
        }
        if seconds is not None:
            values |= {
                "wall_s": seconds,
                "ttft_s": 0.1 * seconds,
                "tokens": 10,
                "token_ids": list(range(10)),
                "emitted": [1] * 10,
                "proposed": [0] * 10,
                "accepted": [0] * 10,
                "finish_reason": "length",
                "rss_bytes": 10**9,
            }
        return Row(**(values | more))

    return build


@pytest.fixture
def make_lines(make_header: Callable[..., Header], make_row: Callable[..., Row]) -> Callable[..., list[Line]]:
    """The lines of a finished run: every arm answers every prompt twice, `gains` (arm -> speed-up) without noise or,
    with `noise`, with lognormal noise of that sigma on every row."""

    def build(gains: Mapping[str, float], noise: float = 0.0, seed: int = 0, **changes: Any) -> list[Line]:
        draw = random.Random(seed)
        gammas = [int(name.removeprefix("draft-g")) for name in gains if name.startswith("draft-g")]
        header = make_header(**({"gammas": gammas or [2]} | changes))
        lines: list[Line] = [header, Session(session=1, started_at=header.started_at)]
        for repetition in range(header.repetitions):
            for prompt in header.prompt_ids:
                for arm, gain in gains.items():
                    seconds = draw.lognormvariate(0, noise) / gain if noise else 1 / gain
                    lines.append(make_row(arm, prompt, repetition, seconds))
        lines.append(Stop(repetitions=header.repetitions, reason="asked for"))
        target_s = {1: 0.09, 2: 0.10, 3: 0.11, 4: 0.12, 6: 0.14}
        for role, seconds in (("target", target_s), ("draft", {1: 0.009})):
            lines.append(Passes(role=role, device="CPU", settings="default", context=256, seconds=seconds))  # type: ignore[arg-type]
        return lines

    return build


@pytest.fixture
def read_rows() -> Callable[[Path], Iterator[dict[str, Any]]]:
    def read(path: Path) -> Iterator[dict[str, Any]]:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)

    return read
