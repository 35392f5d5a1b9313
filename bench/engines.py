"""What the bench needs from outside its folder, in one place, so that tests can hand in scripted engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import psutil

from edgespec.engine.contract import Engine, EngineFactory
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, installed_versions

from .disturbance import settle
from .isolation import EngineLost, IsolatedEngine, in_a_worker
from .plan import PIPELINE, Arm
from .rows import Load
from .sensors import Sensors

GIVE_UP_AFTER = 3
"""An engine whose process was lost this often is not started again."""


class CostMeter(Protocol):
    """Seconds behind `context` tokens, by role: "target", of a pass over n tokens for each n of `lengths` and 1; where
    `drafting`, "draft", of n-1 draft passes for each of them. Measured in turns, so that their ratios hold."""

    def __call__(
        self,
        pair: Pair,
        *,
        device: str,
        draft_device: str,
        settings: Mapping[str, Any],
        lengths: Sequence[int],
        drafting: bool,
        context: int,
    ) -> Mapping[str, Mapping[int, float]]: ...


@dataclass(frozen=True)
class Backend:
    """Engines, meters, the settings to try, and what is known of machine and device.

    measure_bandwidth: bytes per second that a device reads at best. answer_together, logit_gaps: see control.py. check:
    raises EdgespecError when a device is absent or cannot run a mode. same_as_default: candidates that a trial leaves
    out, because they are what the device does anyway. settle: waits for a quiet machine.
    """

    open_engine: EngineFactory
    measure_costs: CostMeter | None
    measure_bandwidth: Callable[[str], float] | None
    answer_together: Callable[..., list[list[int]]] | None
    logit_gaps: Callable[..., list[float]] | None
    candidates: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    machine_fingerprint: str
    versions: Mapping[str, str]
    check: Callable[[str, str], None]
    same_as_default: frozenset[str] = frozenset()
    settle: Callable[[], None] = settle
    sensors: Callable[[], Any] = field(default=Sensors)

    @classmethod
    def real(cls, device: str, answer_timeout_s: float | None = None) -> Backend:
        """`device` of this machine; every engine and every meter in a process of its own."""
        from edgespec import machine
        from edgespec.devices import default_precision, require_device, require_mode
        from edgespec.settings import PLAIN_CANDIDATES, same_as_default

        def check(device: str, mode: str) -> None:
            require_mode(require_device(device), mode)

        def isolated(pair: Pair, **how: Any) -> Engine:
            limit = {} if answer_timeout_s is None else {"answer_timeout_s": answer_timeout_s}
            return IsolatedEngine(pair, **limit, **how)

        def costs(pair: Pair, **how: Any) -> Mapping[str, Mapping[int, float]]:
            found = in_a_worker("costs", pair=str(pair.root), **how)
            return {role: {int(n): float(seconds) for n, seconds in items} for role, items in found.items()}

        return cls(
            open_engine=cast(EngineFactory, isolated),
            measure_costs=cast(CostMeter, costs),
            measure_bandwidth=lambda device: float(in_a_worker("bandwidth", device=device)),
            answer_together=lambda pair, **how: list(in_a_worker("together", pair=str(pair.root), **how)),
            logit_gaps=lambda pair, **how: list(in_a_worker("logit_gaps", pair=str(pair.root), **how)),
            candidates=PLAIN_CANDIDATES,
            machine=machine.describe(),
            machine_fingerprint=machine.fingerprint(),
            versions=installed_versions("openvino-genai", "openvino-tokenizers"),
            check=check,
            same_as_default=same_as_default(default_precision(device)),
        )


def open_engine(pair: Pair, *, engine: str, **how: Any) -> Any:
    """The engine of that name, loaded in this process."""
    if engine == PIPELINE:
        from .auto import AutoEngine

        return AutoEngine(pair, **how)
    if engine == "native":
        from edgespec.engine.native import NativeEngine

        return NativeEngine(pair, **how)
    from edgespec.engine.genai import GenaiEngine

    return GenaiEngine(pair, **how)


class EnginePool:
    """Engines by Arm.engine_key, each loaded once. A load that failed is remembered and raised again when asked for.

    Before every load after the first, the memory still free is compared with what the hungriest load so far took: a
    machine that swaps measures its disk. An engine that would not fit is refused with a sentence.
    """

    def __init__(self, pair: Pair, device: str, open_engine: EngineFactory) -> None:
        self._pair = pair
        self._device = device
        self._open_engine = open_engine
        self._engines: dict[tuple[str, ...], Engine | Exception] = {}
        self._lost: dict[tuple[str, ...], int] = {}
        self._given_up: dict[tuple[str, ...], EdgespecError] = {}
        self._hungriest = 0
        self.loads: list[Load] = []

    def get(self, arm: Arm) -> Engine:
        """The engine `arm` runs on; raises whatever its load raised, until the engine is closed."""
        if arm.engine_key in self._given_up:
            raise self._given_up[arm.engine_key]
        if arm.engine_key not in self._engines:
            try:
                self._engines[arm.engine_key] = self._load(arm)
            except EngineLost as error:
                self.lost(arm, error)
                raise
            except Exception as error:
                self._engines[arm.engine_key] = error
        engine = self._engines[arm.engine_key]
        if isinstance(engine, Exception):
            raise engine
        return engine

    def lost(self, arm: Arm, error: Exception) -> None:
        """The arm's engine is gone: the next `get` loads it anew, until GIVE_UP_AFTER losses."""
        engine = self._engines.pop(arm.engine_key, None)
        if engine is not None and not isinstance(engine, Exception):
            engine.close()
        self._lost[arm.engine_key] = self._lost.get(arm.engine_key, 0) + 1
        if self._lost[arm.engine_key] >= GIVE_UP_AFTER:
            self._given_up[arm.engine_key] = EdgespecError(
                f"given up after {GIVE_UP_AFTER} failures, the last: {error}"
            )

    def keep(self, arms: Iterable[Arm]) -> None:
        """Close every engine that none of `arms` runs on."""
        wanted = {arm.engine_key for arm in arms}
        for key in [key for key in self._engines if key not in wanted]:
            engine = self._engines.pop(key)
            if not isinstance(engine, Exception):
                engine.close()

    def close(self) -> None:
        self.keep(())

    def _load(self, arm: Arm) -> Engine:
        free = psutil.virtual_memory().available
        if self._hungriest and free < self._hungriest:
            raise EdgespecError(
                f"not loaded: another engine took {self._hungriest / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory is "
                "free; run fewer arms at once (--arms plain,draft) or fix the settings (--settings default)"
            )
        started = time.perf_counter()
        engine = self._open_engine(
            self._pair,
            engine=arm.engine,
            device=self._device,
            draft_device=arm.draft_device,
            mode=arm.mode,
            settings=arm.settings,
        )
        load_s = time.perf_counter() - started
        self._hungriest = max(self._hungriest, free - psutil.virtual_memory().available)
        self.loads.append(
            Load(
                engine="/".join(arm.engine_key),
                settings=arm.settings_name,
                load_s=load_s,
                rss_before_bytes=getattr(engine, "rss_before_bytes", None),
                rss_after_bytes=getattr(engine, "rss_after_bytes", None),
            )
        )
        return engine
