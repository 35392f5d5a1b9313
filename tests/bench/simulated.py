"""Rows of runs that never took place: a shared machine whose speed wanders, with noise and hiccups.

Measured as the bench does it: repetition by repetition, prompts and arms in a fresh random order. Every draw is seeded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from edgespec.bench.rows import Header, Line, Row, Session, Stop

TOKENS = 32
PROPOSED = 3
PLAIN_S = 1.0


@dataclass(frozen=True)
class Machine:
    """noise: sigma of the logarithm of a row's time. hiccups: share of rows that something else slows, by a fifth on
    average (exponential). drift: standard deviation of the machine's log speed, which forgets itself over `memory_s`
    (an Ornstein-Uhlenbeck process in its own time: neighbouring rows see nearly the same speed). luck: sigma of
    what an engine's process does to all its times; every repetition starts new ones."""

    noise: float = 0.05
    hiccups: float = 0.05
    drift: float = 0.10
    memory_s: float = 120.0
    luck: float = 0.0


SHARED = Machine()


def rounds(
    gains: Mapping[str, float],
    *,
    prompts: int = 28,
    seed: object = 0,
    machine: Machine = SHARED,
    slowdown: float = 1.0,
    spread: float = 0.0,
    acceptance: Mapping[str, float] | None = None,
) -> Iterator[list[Row]]:
    """The rows of one repetition after the other, in the order of measurement.

    gains: arm -> true speed-up over plain, which must be among them. slowdown: on every time of this run. spread:
    standard deviation over prompts of an arm's log gain; it belongs to arm and prompt, so it is the same in every run.
    acceptance: arm -> share accepted of PROPOSED tokens a step.
    """
    draw = random.Random(f"rows/{seed}")
    names = [f"p{index:02}" for index in range(prompts)]
    lengths = {name: math.exp(random.Random(f"length/{name}").gauss(0, 0.3)) for name in names}
    own = {
        (arm, name): random.Random(f"gain/{arm}/{name}").gauss(0, spread) if arm != "plain" else 0.0
        for arm in gains
        for name in names
    }
    steps = {(arm, name): _steps(arm, name, (acceptance or {}).get(arm)) for arm in gains for name in names}
    level = draw.gauss(0, machine.drift)
    for repetition in count():
        rows = []
        own_luck = {arm: draw.gauss(0, machine.luck) if machine.luck else 0.0 for arm in gains}
        for name in draw.sample(names, prompts):
            for order, arm in enumerate(draw.sample(list(gains), len(gains))):
                hiccup = draw.expovariate(5) if draw.random() < machine.hiccups else 0.0
                log_s = level - math.log(gains[arm]) - own[arm, name] + own_luck[arm] + hiccup
                log_s += draw.gauss(0, machine.noise)
                seconds = PLAIN_S * lengths[name] * slowdown * math.exp(log_s)
                kept = math.exp(-seconds / machine.memory_s)
                level = level * kept + draw.gauss(0, machine.drift) * math.sqrt(1 - kept * kept)
                rows.append(row(name, arm, repetition, seconds, order=order, **steps[arm, name]))
        yield rows


def measured(gains: Mapping[str, float], *, repetitions: int = 2, **how: Any) -> list[Row]:
    """A whole run; `how` as for `rounds`."""
    return [row for rows in islice(rounds(gains, **how), repetitions) for row in rows]


_ANSWER: dict[str, Any] = {
    "phase": "measure",
    "case": "p00",
    "prompt": "p00",
    "category": "function",
    "arm": "plain",
    "repetition": 0,
    "order": 0,
    "session": 1,
    "started_at": "2026-11-21T10:00:01.000+00:00",
    "tokens": TOKENS,
    "token_ids": list(range(TOKENS)),
    "finish_reason": "length",
    "rss_bytes": 10**9,
}
_TEMPLATE = Row(**_ANSWER)
_FAILED = Row(**{**_ANSWER, "tokens": None, "token_ids": [], "finish_reason": None, "error": "it broke"})


def row(prompt: str, arm: str, repetition: int = 0, seconds: float | None = 1.0, **more: Any) -> Row:
    """One measured row; one that failed when `seconds` is None. Copied, not validated, because thousands are made."""
    category = ("function", "class")[int(prompt[1:]) % 2]
    update = {"case": prompt, "prompt": prompt, "category": category, "arm": arm, "repetition": repetition, **more}
    if seconds is None:
        return _FAILED.model_copy(update=update)
    return _TEMPLATE.model_copy(update={**update, "wall_s": seconds, "ttft_s": seconds / 10, **more})


def _steps(arm: str, prompt: str, acceptance: float | None) -> dict[str, list[int]]:
    """The same in every repetition and run, as greedy decoding is."""
    if acceptance is None:
        return {}
    draw = random.Random(f"accepted/{arm}/{prompt}/{acceptance}")
    accepted = [sum(draw.random() < acceptance for _ in range(PROPOSED)) for _ in range(TOKENS // 4)]
    return {
        "emitted": [1, *(kept + 1 for kept in accepted)],
        "proposed": [0, *(PROPOSED for _ in accepted)],
        "accepted": [0, *accepted],
    }


def whole_run(
    make_header: Callable[..., Header],
    gains: Mapping[str, float],
    *,
    repetitions: int = 2,
    header: Mapping[str, Any] | None = None,
    **how: Any,
) -> list[Line]:
    """The lines of a finished run; `header` changes its header, `how` as for `rounds`."""
    rows = measured(gains, repetitions=repetitions, **how)
    gammas = [int(name.removeprefix("draft-g")) for name in gains if name.startswith("draft-g")]
    values = {
        "prompt_ids": sorted({one.prompt for one in rows}),
        "modes": ["plain", "draft"] if gammas else ["plain"],
        "gammas": gammas,
        "repetitions": repetitions,
        "max_repetitions": repetitions,
        "max_new_tokens": TOKENS,
        "machine": {"cpu": "Scripted CPU", "logical_cores": 2, "memory_bytes": 8 << 30},
        "versions": {"edgespec": "0.1.0", "openvino": "2026.4.1"},
    }
    found = make_header(**(values | dict(header or {})))
    session = Session(session=1, started_at=found.started_at)
    return [found, session, *rows, Stop(repetitions=repetitions, reason="asked for")]
