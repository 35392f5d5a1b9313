"""What a tune would try, and how long that would take: said before anything but a first answer is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .confirming import FEWEST_ROUNDS
from .search import FINALISTS, SETTINGS_PROMPTS, STAGE_PROMPTS, Search


@dataclass(frozen=True)
class Part:
    """One part of a tune. tries: by name. least_s: a first look at all of them; most_s: every prompt for every one."""

    name: str
    tries: list[str]
    least_s: float
    most_s: float


@dataclass(frozen=True)
class Plan:
    """parts in order. load_s, answer_s: measured once, with plain decoding. A tune ends at `budget_s` at the latest,
    but for a score of quality or an answer that is under way."""

    device: str
    prompts: str
    prompt_count: int
    load_s: float
    answer_s: float
    parts: list[Part]
    left_out: list[str]
    budget_s: float

    @property
    def enough(self) -> bool:
        """Whether the budget allows a first look at everything."""
        return sum(part.least_s for part in self.parts) <= self.budget_s


def plan(search: Search) -> Plan:
    """Load plain decoding, time two answers, and count. Closes what it loaded."""
    try:
        asks = search.begin()
    finally:
        search.track.close()
    timing, count = search.track.timing, len(asks.prompts)
    probes = 2 if any(not arm.plain for arm in search.ways) else 1

    def part(name: str, tries: Sequence[str], engines: int, arms: int, first: int, most: int, rounds: int = 1) -> Part:
        loads = engines * timing.load_s * rounds
        return Part(
            name, list(tries), loads + arms * first * timing.answer_s, loads + arms * most * timing.answer_s * rounds
        )

    parts = [
        part(
            f"settings: {what}",
            list(variants),
            probes * (len(variants) + 1),
            probes * (len(variants) + 1),
            STAGE_PROMPTS,
            min(count, SETTINGS_PROMPTS),
        )
        for what, variants in search.steps
    ]
    engines = len({arm.engine_key for arm in search.ways}) + 1
    names = [arm.name for arm in search.ways]
    parts.append(part("ways to decode", names, engines, len(names) + 1, STAGE_PROMPTS, count))
    finals = min(FINALISTS, len(names)) + 2
    parts.append(
        part(
            "final", [f"the best {FINALISTS}, the best plain, the default"], finals, finals, count, count, FEWEST_ROUNDS
        )
    )
    return Plan(
        device=search.device,
        prompts=asks.name,
        prompt_count=count,
        load_s=timing.load_s,
        answer_s=timing.answer_s,
        parts=parts,
        left_out=search.left_out,
        budget_s=search.options.budget_s,
    )
