"""What the bench needs from outside its folder, in one place, so that tests can hand in scripted engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import psutil

from edgespec.engine.step import Generation
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, installed_versions

from .plan import Arm
from .rows import Load


class Engine(Protocol):
    """One loaded configuration. `generate` is greedy and keeps its own clock (see Generation)."""

    def encode(self, text: str) -> list[int]: ...

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, *, gamma: int | None = None) -> Generation: ...

    def close(self) -> None: ...


class EngineFactory(Protocol):
    def __call__(
        self, pair: Pair, *, device: str, draft_device: str | None, mode: str, settings: Mapping[str, Any]
    ) -> Engine: ...


class PassMeter(Protocol):
    """Seconds of one forward pass over n tokens, for each n of `lengths`; role is "target" or "draft"."""

    def __call__(
        self, pair: Pair, role: str, device: str, settings: Mapping[str, Any], lengths: Sequence[int]
    ) -> dict[int, float]: ...


@dataclass(frozen=True)
class Backend:
    """Engines, the meter of single passes, the settings to try, and what is known of machine and device.

    check: raises EdgespecError when a device is absent or cannot run a mode. same_as_default: candidates that a trial
    leaves out, because they are what the device does anyway.
    """

    open_engine: EngineFactory
    measure_passes: PassMeter | None
    candidates: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    machine_fingerprint: str
    versions: Mapping[str, str]
    check: Callable[[str, str], None]
    same_as_default: frozenset[str] = frozenset()

    @classmethod
    def real(cls, device: str) -> Backend:
        """`device` of this machine, through openvino_genai."""
        from edgespec import machine
        from edgespec.devices import default_precision, require_device, require_mode
        from edgespec.engine.genai import open_engine
        from edgespec.engine.passes import measure_passes
        from edgespec.settings import PLAIN_CANDIDATES, same_as_default

        def check(device: str, mode: str) -> None:
            require_mode(require_device(device), mode)

        def passes(
            pair: Pair, role: str, device: str, settings: Mapping[str, Any], lengths: Sequence[int]
        ) -> dict[int, float]:
            return measure_passes(pair, cast(Any, role), device, settings, lengths=lengths)

        return cls(
            open_engine=cast(EngineFactory, open_engine),
            measure_passes=passes,
            candidates=PLAIN_CANDIDATES,
            machine=machine.describe(),
            machine_fingerprint=machine.fingerprint(),
            versions=installed_versions("openvino-genai", "openvino-tokenizers"),
            check=check,
            same_as_default=same_as_default(default_precision(device)),
        )


class EnginePool:
    """Engines by (mode, settings), each loaded once. A load that failed is remembered and raised again when asked for.

    Before every load after the first, the memory still free is compared with what the hungriest load so far took: a
    machine that swaps measures its disk. An engine that would not fit is refused with a sentence.
    """

    def __init__(self, pair: Pair, device: str, draft_device: str | None, open_engine: EngineFactory) -> None:
        self._pair = pair
        self._device = device
        self._draft_device = draft_device
        self._open_engine = open_engine
        self._engines: dict[tuple[str, str], Engine | Exception] = {}
        self._hungriest = 0
        self.loads: list[Load] = []

    def get(self, arm: Arm) -> Engine:
        """The engine `arm` runs on; raises whatever its load raised."""
        if arm.engine_key not in self._engines:
            try:
                self._engines[arm.engine_key] = self._load(arm)
            except Exception as error:
                self._engines[arm.engine_key] = error
        engine = self._engines[arm.engine_key]
        if isinstance(engine, Exception):
            raise engine
        return engine

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
        process = psutil.Process()
        rss = process.memory_info().rss
        started = time.perf_counter()
        engine = self._open_engine(
            self._pair,
            device=self._device,
            draft_device=self._draft_device if arm.mode == "draft" else None,
            mode=arm.mode,
            settings=arm.settings,
        )
        load_s = time.perf_counter() - started
        self._hungriest = max(self._hungriest, free - psutil.virtual_memory().available)
        self.loads.append(
            Load(
                mode=arm.mode,
                settings=arm.settings_name,
                load_s=load_s,
                rss_before_bytes=rss,
                rss_after_bytes=process.memory_info().rss,
            )
        )
        return engine
