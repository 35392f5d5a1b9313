"""A world for a tune in which every speed is known: a clock that only answers and loads move, noise that is seeded."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.engine.step import Generation, Step
from edgespec.errors import EdgespecError
from edgespec.profile import Here, MachineFacts
from edgespec.settings import EXACT, describe
from edgespec.tuning.settings import DeviceFacts
from edgespec.tuning.world import Ask, Asks, World

PLAIN_S = 0.02  # seconds a token of plain decoding with nothing set
VOCABULARY = 50
BF16_CPU = DeviceFacts("CPU", "bf16", frozenset({"BF16", "FP32"}), 2, 2, False)


@dataclass
class Workbench:
    """speeds: how many times as fast a way is as plain decoding under the same settings, by its name in bench's words
    (draft-g3, lookup, native-copy); ways not named are `others`. settings: how many times as fast everything is under
    settings, by their description; those not named are 1. noise: sigma of the log of an answer's time; spread: of a
    way's log gain over prompts. logits_off: by description, what is added to half of the likeliest logits' rivals.
    fails: ways that cannot be loaded; breaks: (way, how many answers) after which its engine is lost. holds: engines
    that fit in memory. interrupt_after: Ctrl-C at this many answers."""

    speeds: dict[str, float] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)
    others: float = 0.7
    noise: float = 0.05
    spread: float = 0.05
    seed: int = 0
    load_s: float = 1.0
    prompts: int = 8
    has_checks: bool = True
    logits_off: dict[str, float] = field(default_factory=dict)
    fails: set[str] = field(default_factory=set)
    breaks: dict[str, int] = field(default_factory=dict)
    holds: int = 100
    interrupt_after: int | None = None
    facts: DeviceFacts = BF16_CPU
    refuse: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = 0.0
        self.answers: list[tuple[str, str, str]] = []
        self.loaded = self.most_loaded = self.loads = 0
        self.forced: list[str] = []
        self.draw = random.Random(f"workbench/{self.seed}")

    def world(self) -> World:
        return World(
            open_engine=self.open_engine,
            force=self.force,
            asks=lambda engine: Asks(
                "scripted", "ab" * 32, tuple(Ask(f"p{i}", (i + 1, i + 2)) for i in range(self.prompts))
            ),
            check=self.check,
            device_facts=lambda device: self.facts,
            here=lambda device: Here(
                MachineFacts(cpu="Scripted", physical_cores=2, logical_cores=2, system="Test"),
                "Scripted CPU",
                {"edgespec": "0.1.0", "openvino": "2026.4.1"},
            ),
            machine_fingerprint=lambda: "0123456789abcdef",
            clock=lambda: self.now,
            free_memory=lambda: (self.holds - self.loaded) * 1_000_000_000,
        )

    def check(self, device: str, mode: str) -> None:
        if device not in ("CPU", "GPU", "NPU"):
            raise EdgespecError(f"there is no device '{device}' on this machine")
        if mode in self.refuse:
            raise EdgespecError(self.refuse[mode])

    def open_engine(self, pair: Any, **how: Any) -> ScriptedEngine:
        self.now += self.load_s
        name = ("native-" if how["engine"] == "native" else "") + how["mode"]
        if name in self.fails:
            raise EdgespecError(f"{name} cannot be loaded")
        self.loaded += 1
        self.loads += 1
        self.most_loaded = max(self.most_loaded, self.loaded)
        return ScriptedEngine(self, name, dict(how["settings"]))

    def force(self, pair: Any, *, device: str, settings: Mapping[str, Any], texts: Sequence[Any], out: Path) -> None:
        """Places of which `logits_off` moves every second one's likeliest token down."""
        key = describe(settings)
        self.forced.append("exact" if dict(settings) == EXACT else key)
        places = sum(len(answer) for _, answer in texts)
        logits = np.random.default_rng(7).normal(0, 3, (places, VOCABULARY)).astype(np.float32)
        rows = np.arange(0, places, 2)
        logits[rows, logits[rows].argmax(-1)] -= self.logits_off.get(key, 0.0)
        np.save(out, logits, allow_pickle=False)

    def speed(self, way: str, settings: Mapping[str, Any], prompt: int) -> float:
        gain = 1.0 if way == "plain" else self.speeds.get(way, self.others)
        own = random.Random(f"{way}/{prompt}").gauss(0, self.spread) if way != "plain" else 0.0
        return gain * math.exp(own) * self.settings.get(describe(settings), 1.0)


class ScriptedEngine:
    has_chat_template = False

    def __init__(self, bench: Workbench, name: str, settings: dict[str, Any]) -> None:
        self.bench, self.name, self.settings = bench, name, settings
        self.closed = False

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        raise EdgespecError("no chat template")

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        *,
        gamma: int | None = None,
        threshold: float | None = None,
    ) -> Generation:
        bench = self.bench
        assert not self.closed, "a closed engine was asked"
        way = self.name + ("" if gamma is None else f"-g{gamma}") + ("" if threshold is None else f"-t{threshold:g}")
        if threshold is not None:
            way = f"dynamic-t{threshold:g}"
        bench.answers.append((way, describe(self.settings), f"p{prompt_ids[0] - 1}"))
        if bench.interrupt_after is not None and len(bench.answers) > bench.interrupt_after:
            raise KeyboardInterrupt
        if self.name in bench.breaks:
            bench.breaks[self.name] -= 1
            if bench.breaks[self.name] < 0:
                raise EdgespecError("the engine's process ended by signal 6")
        wall = PLAIN_S * max_new_tokens / bench.speed(way, self.settings, prompt_ids[0])
        wall *= math.exp(bench.draw.gauss(0, bench.noise))
        bench.now += wall
        tokens = [(prompt_ids[0] * 7 + i) % VOCABULARY for i in range(max_new_tokens)]
        return Generation(tokens, [Step((token,)) for token in tokens], "length", wall / 10, wall)

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True
        self.bench.loaded -= 1
