"""The engines of one pipeline: opened when first needed, kept, and freed to make room for another."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..engine.genai import GenaiEngine
from ..engine.native import NativeEngine
from ..errors import EdgespecError, MemoryShortage
from ..machine import fingerprint
from ..pair import Pair
from . import npu, probe
from .governed import Watch
from .governor import Governor
from .memory import Estimate, require_room, weights_file
from .model_cache import ModelCache
from .modes import Way
from .placement import Placement

Engine = GenaiEngine | NativeEngine


@dataclass
class Opened:
    """An engine and what is kept beside it. watch: what is seen of a native drafter. lengths: what an NPU's models were
    compiled for. vocabulary: of grammars, made when the first one comes."""

    engine: Engine
    way: Way
    device: str
    draft_device: str | None
    governor: Governor | None
    watch: Watch | None = None
    lengths: npu.Lengths | None = None
    estimate: Estimate | None = None
    vocabulary: Any = field(default=None, repr=False)


class Engines:
    """Not for concurrent calls: all of them come from the pipeline's one worker."""

    def __init__(
        self,
        pair: Pair,
        settings: Mapping[str, Any],
        *,
        cache: ModelCache | None,
        context: int | None,
        memory_limit_bytes: int | None,
        lengths: npu.Lengths,
    ) -> None:
        """settings: the app's own, over those of a tuned profile."""
        self._pair = pair
        self._settings = dict(settings)
        self._cache = cache
        self._context = context
        self._memory_limit_bytes = memory_limit_bytes
        self._lengths = lengths
        self._opened: dict[tuple[Any, ...], Opened] = {}
        self._probed = probe.Memory(cache.folder if cache else None)
        self._shadow: TemporaryDirectory[str] | None = None

    def open(
        self,
        way: Way,
        place: Placement,
        *,
        governor: Governor | None,
        lengths: npu.Lengths | None = None,
        adapters: Any = None,
    ) -> Opened:
        """The engine for `way`, loaded if it is not. gamma and threshold do not matter: they are chosen a request.

        Raises EdgespecError when it cannot be loaded, or would not fit in memory even alone.
        """
        key = _key(way, place)
        draft_device = place.draft_device if way.drafts else None
        on_npu = way.engine == "genai" and (npu.is_npu(place.device) or npu.is_npu(draft_device))
        found = self._opened.get(key)
        if found is not None and on_npu and lengths is not None and found.lengths is not None:
            self._lengths = found.lengths.holding(lengths.prompt, 0, lengths.gamma)
            self._lengths = replace(self._lengths, response=max(self._lengths.response, lengths.response))
            if self._lengths != found.lengths:  # the request does not fit: compile anew
                self._drop(key)
                found = None
        elif on_npu and lengths is not None:
            self._lengths = lengths
        if found is None:
            settings = {**place.settings_for(way), **self._settings}
            needed = self._make_room(way, settings)
            self._probe(way, place.device, draft_device, settings)
            found = self._load(way, place.device, draft_device, settings, governor, on_npu, adapters)
            found.estimate = needed
            self._opened[key] = found
            if self._cache is not None:
                self._cache.prune()
        return found

    @property
    def opened(self) -> tuple[Opened, ...]:
        return tuple(list(self._opened.values()))  # a snapshot: other threads look on

    def is_open(self, way: Way, place: Placement) -> bool:
        return _key(way, place) in self._opened

    def has_room(self, way: Way, place: Placement) -> bool:
        """Whether `way` is open, or fits in memory beside what is. For any thread."""
        if self.is_open(way, place):
            return True
        try:
            self._require_room(way, {**place.settings_for(way), **self._settings})
        except MemoryShortage:
            return False
        return True

    def discard(self, opened: Opened) -> None:
        """Forget an engine that broke down; freeing it may fail too."""
        self._opened = {key: entry for key, entry in self._opened.items() if entry is not opened}
        with suppress(Exception):
            opened.engine.close()

    def _make_room(self, way: Way, settings: Mapping[str, Any]) -> Estimate:
        """Refuse what does not fit; where it would without the engines that are open, those are freed."""
        try:
            return self._require_room(way, settings)
        except MemoryShortage:
            if not self._opened:
                raise
        self.close_all()
        return self._require_room(way, settings)

    def _require_room(self, way: Way, settings: Mapping[str, Any]) -> Estimate:
        """Beside the engines that are open. Raises MemoryShortage."""
        free = self._memory_limit_bytes
        if free is not None:
            held = sum(entry.estimate.total_bytes for entry in self.opened if entry.estimate)
            free = max(0, free - held)
        precision = str(settings.get("KV_CACHE_PRECISION", "u8")).lower().strip("<>").removeprefix("type: ")
        return require_room(self._pair, way, context=self._context, cache_precision=precision, free_bytes=free)

    def _probe(self, way: Way, device: str, draft_device: str | None, settings: Mapping[str, Any]) -> None:
        if not probe.risky(device) and not probe.risky(draft_device or device):
            return
        if npu.emulation() and npu.is_npu(device):
            return
        manifest = self._pair.manifest
        files = [model.files[weights_file(model)].sha256 for model in (manifest.target, manifest.draft) if model]
        facts = {
            "machine": fingerprint(),
            "files": files,
            "way": way.name,
            "device": device,
            "draft_device": draft_device,
            "settings": {name: str(value) for name, value in settings.items()},
        }
        if self._probed.passed(facts):
            return
        plain = {name: value for name, value in settings.items() if isinstance(value, str | int | float | bool)}
        reason = probe.attempt(
            f"{__name__}:try_out",
            {
                "pair": str(self._pair.root.absolute()),
                "engine": way.engine,
                "mode": way.mode,
                "device": device,
                "draft_device": draft_device,
                "settings": plain | self._cached(device),
                "lengths": [self._lengths.prompt, self._lengths.response, self._lengths.gamma],
            },
        )
        if reason is not None:
            raise EdgespecError(f"mode '{way.name}' was tried on {device} in a process of its own, and {reason}")
        self._probed.keep(facts)

    def _cached(self, device: str) -> dict[str, Any]:
        """OpenVINO's cache, where it helps. On a CPU it writes what both engines compile, with attention over a paged
        cache, and does not take it back (2026.4.1): each start would compile all the same and write as well. An NPU
        emulated by other devices compiles parts that it cannot keep."""
        if self._cache is None or device == "CPU" or (npu.is_npu(device) and npu.emulation()):
            return {}
        self._cache.folder.mkdir(parents=True, exist_ok=True)
        return {"CACHE_DIR": str(self._cache.folder)}

    def _load(
        self,
        way: Way,
        device: str,
        draft_device: str | None,
        settings: Mapping[str, Any],
        governor: Governor | None,
        on_npu: bool,
        adapters: Any,
    ) -> Opened:
        settings = {**self._cached(device), **settings}
        if way.engine == "native":
            engine = NativeEngine(
                self._pair, device=device, draft_device=draft_device, mode=way.mode, settings=settings
            )
            watch = Watch(governor)
            engine.watch_drafter(watch.wrap)
            return Opened(engine, way, device, draft_device, governor, watch)
        pair = self._pair
        if on_npu and way.drafts:
            pair = npu.with_gamma(pair, self._lengths.gamma, self._shadow_folder())
        genai = open_genai(pair, way.mode, device, draft_device, settings, self._lengths if on_npu else None, adapters)
        if governor is not None:
            governor.interleaves = False
        return Opened(genai, way, device, draft_device, governor, lengths=self._lengths if on_npu else None)

    def _shadow_folder(self) -> Path:
        if self._cache is not None:
            return self._cache.folder / "npu"
        self._shadow = self._shadow or TemporaryDirectory(prefix="edgespec-npu-", ignore_cleanup_errors=True)
        return Path(self._shadow.name)

    def _drop(self, key: tuple[Any, ...]) -> None:
        self._opened.pop(key).engine.close()

    def close_all(self) -> None:
        for key in list(self._opened):
            self._drop(key)

    def close(self) -> None:
        self.close_all()
        if self._shadow is not None:
            self._shadow.cleanup()


def open_genai(
    pair: Pair,
    mode: str,
    device: str,
    draft_device: str | None,
    settings: Mapping[str, Any],
    lengths: npu.Lengths | None,
    adapters: Any = None,
) -> GenaiEngine:
    """openvino-genai's engine; lengths: what an NPU compiles for, None where there is none."""
    draft_settings = None
    if lengths is not None:
        settings, draft_settings = npu.split(settings, device, draft_device or device, lengths)
    if adapters is not None:
        settings = {**settings, "adapters": adapters}
    return GenaiEngine(
        pair,
        device=device,
        draft_device=draft_device,
        mode=mode,  # type: ignore[arg-type]
        settings=settings,
        draft_settings=draft_settings,
        prefix_caching=mode != "eagle3",  # see routing.keeps_prefixes; an NPU's pipeline has no such cache
    )


def _key(way: Way, place: Placement) -> tuple[Any, ...]:
    """What makes two ways one engine: gamma and threshold do not."""
    return way.engine, way.mode, place.device, place.draft_device if way.drafts else None


def try_out(
    pair: str,
    engine: str,
    mode: str,
    device: str,
    draft_device: str | None,
    settings: dict[str, Any],
    lengths: list[int],
) -> None:
    """What a probe's child does: load, and say a few tokens."""
    opened = Pair.open(pair, verify=False)
    on_npu = npu.is_npu(device) or npu.is_npu(draft_device)
    loaded: Engine
    if engine == "native":
        loaded = NativeEngine(opened, device=device, draft_device=draft_device, mode=mode, settings=settings)
    else:
        loaded = open_genai(opened, mode, device, draft_device, settings, npu.Lengths(*lengths) if on_npu else None)
    loaded.generate([1, 1], 4)
