"""What `edgespec tune` is handed: the bench's engines in processes of their own, its prompts, its eye on other load."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from edgespec import machine
from edgespec.cache import cache_folder
from edgespec.devices import default_precision, list_devices, require_device, require_mode
from edgespec.engine.contract import Engine, EngineFactory
from edgespec.pair import Pair
from edgespec.profile import Here
from edgespec.tuning.settings import DeviceFacts
from edgespec.tuning.world import Ask, Asks, World

from .cases import PromptBook, Tokenizing, cases_of
from .disturbance import Watch, settle
from .isolation import IsolatedEngine, in_a_worker
from .prompts import Suite, load_suite, spread
from .prompts.contamination import split, training_index_of
from .sensors import Sensors

CHAT_SUITE, TEXT_SUITE = "tasks-quick", "quick"
MOST_PROMPTS = 12
"""Of a larger suite so many are taken, spread over its categories."""


def workshop(pair: Pair, prompts: str | None = None) -> World:
    """The real thing. prompts: a suite's name or a JSONL file; None: tasks for a model with a chat template, text to
    continue for one without. Raises EdgespecError for prompts that cannot be read."""
    suite = None if prompts is None else _unseen(load_suite(prompts), pair)

    def asks(engine: Engine) -> Asks:
        chosen = suite or _unseen(load_suite(CHAT_SUITE if engine.has_chat_template else TEXT_SUITE), pair)
        taken = Suite(chosen.name, spread(chosen.prompts, MOST_PROMPTS))
        book = PromptBook(taken.prompts)
        cases = [case for case in cases_of(taken.prompts) if case.turn == 1]
        ids = [Ask(case.id, tuple(book.ids(case, cast(Tokenizing, engine)))) for case in cases]
        return Asks(taken.name, taken.sha256, tuple(ids))

    def check(device: str, mode: str) -> None:
        require_mode(require_device(device), mode)

    return World(
        open_engine=cast(EngineFactory, IsolatedEngine),
        force=_force,
        asks=asks,
        check=check,
        device_facts=device_facts,
        here=Here.on,
        machine_fingerprint=machine.fingerprint,
        watch=_EyeOnOthers,
        settle=settle,
        interrupted=cache_folder() / "tunes",
    )


def device_facts(device: str) -> DeviceFacts:
    """What decides which settings make sense on `device` of this machine."""
    found = machine.describe()
    name = require_device(device)
    item = next((item for item in list_devices() if item.name in (name, f"{name}.0")), None)
    return DeviceFacts(
        kind=name.partition(".")[0],
        default_precision=default_precision(name),
        precisions=frozenset(item.precisions if item else ()),
        physical_cores=found["physical_cores"],
        logical_cores=found["logical_cores"],
        efficient_cores=_efficient_cores(),
    )


def _efficient_cores() -> bool | None:
    """Linux lists the slow cores of a hybrid processor apart; elsewhere it cannot be told from here."""
    return Path("/sys/devices/cpu_atom").exists() if platform.system() == "Linux" else None


def _unseen(suite: Suite, pair: Pair) -> Suite:
    """Without prompts that stand in the draft's training data: they would measure memory."""
    index = training_index_of(pair)
    return split(suite, index)[0] if index else suite


def _force(
    pair: Pair,
    *,
    device: str,
    settings: Mapping[str, Any],
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    out: Path,
) -> None:
    in_a_worker(
        "force",
        pair=str(pair.root),
        device=device,
        settings=dict(settings),
        texts=[[list(prompt), list(answer)] for prompt, answer in texts],
        out=str(out),
    )


class _EyeOnOthers:
    """The bench's sensors and its judgement of them, as a tune wants them."""

    def __init__(self) -> None:
        self._sensors, self._watch = Sensors(), Watch()

    def start(self, engine: Engine) -> None:
        self._sensors.start(getattr(engine, "pid", None))

    def stop(self) -> str | None:
        return self._watch.judge(self._sensors.stop())
