"""What a tune needs from outside, in one place: engines, scores, prompts, a clock. The command hands it in, made of
what the bench measures with; a test hands in a scripted one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from ..engine.contract import Engine, EngineFactory
from ..pair import Pair
from ..profile import Here
from .settings import DeviceFacts


class Forcing(Protocol):
    """Write the logits of quality.forced_logits under `settings` to `out` (.npy), in a process of its own."""

    def __call__(
        self,
        pair: Pair,
        *,
        device: str,
        settings: Mapping[str, Any],
        texts: Sequence[tuple[Sequence[int], Sequence[int]]],
        out: Path,
    ) -> None: ...


@dataclass(frozen=True)
class Ask:
    """A prompt in the tokens that every arm is asked in."""

    id: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Asks:
    """The prompts of a tune, of the suite `name`."""

    name: str
    sha256: str
    prompts: tuple[Ask, ...]


class Watch(Protocol):
    """Whether something else spoilt an answer: `start` before it, `stop` after it gives what did, in words, or None."""

    def start(self, engine: Engine) -> None: ...

    def stop(self) -> str | None: ...


class NoWatch:
    """Sees nothing."""

    def start(self, engine: Engine) -> None:
        pass

    def stop(self) -> str | None:
        return None


@dataclass(frozen=True)
class World:
    """open_engine, force: raise EdgespecError. asks: the prompts, in tokens of the engine it is given. check: raises
    EdgespecError where a device is absent or cannot run a mode. watch: made once a tune. settle: waits for a quiet
    machine. clock: seconds. free_memory: bytes that may be taken. interrupted: the folder in which an interrupted tune
    leaves what it measured; None: it leaves nothing."""

    open_engine: EngineFactory
    force: Forcing
    asks: Callable[[Engine], Asks]
    check: Callable[[str, str], None]
    device_facts: Callable[[str], DeviceFacts]
    here: Callable[[str], Here]
    machine_fingerprint: Callable[[], str]
    watch: Callable[[], Watch] = NoWatch
    settle: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    interrupted: Path | None = None
    free_memory: Callable[[], int] = lambda: int(psutil.virtual_memory().available)
