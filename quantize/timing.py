"""How fast the candidates of a sweep are: their passes, and real decoding with a few pairs of them, both in heats."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from edgespec.engine.model import open_model
from edgespec.engine.native import NativeEngine
from edgespec.engine.passes import REPETITIONS, measure_models
from edgespec.pair import Pair, Role
from edgespec.progress import Progress

from .heats import chained

LENGTHS = (1, 2, 3, 4, 5, 6)
"""Of a target's passes; a draft makes passes over one token."""
Candidate = tuple[Role, str]


@dataclass(frozen=True)
class Models:
    """Folders of the candidates by name; "none" is the uncompressed one."""

    target: Mapping[str, Path]
    draft: Mapping[str, Path]

    def folder(self, candidate: Candidate) -> Path:
        role, name = candidate
        return (self.target if role == "target" else self.draft)[name]


@dataclass(frozen=True)
class _Placed(Pair):
    """A pair whose models lie in folders of their own."""

    target_folder: Path = Path()
    draft_folder: Path = Path()

    @property
    def target(self) -> Path:
        return self.target_folder

    @property
    def draft(self) -> Path | None:
        return self.draft_folder


def time_passes(
    models: Models, heats: Sequence[Sequence[Candidate]], device: str, vocabulary: int, progress: Progress
) -> dict[Candidate, dict[int, float]]:
    """Median seconds of a pass by candidate and length. heats: as heats.plan_heats gives them."""
    found = []
    total = (REPETITIONS + 1) * len(heats)
    with progress.task("timing passes", total=total) as task:
        for number, heat in enumerate(heats, start=1):
            task.describe(f"timing passes of {len(heat)} models in turn (heat {number} of {len(heats)})")
            opened = {
                candidate: (
                    open_model(models.folder(candidate), device).sequence(),
                    LENGTHS if candidate[0] == "target" else (1,),
                )
                for candidate in heat
            }
            found.append(measure_models(opened, vocabulary=vocabulary, told=task.advance))
            del opened
            gc.collect()
    return chained(found, heats[0][0])


def decode(
    pair: Pair,
    models: Models,
    heats: Sequence[Sequence[tuple[str, str, int]]],
    prompts: Sequence[Sequence[int]],
    device: str,
    max_new_tokens: int,
    progress: Progress,
) -> dict[tuple[str, str], float]:
    """Milliseconds a token of real decoding by target and draft, engines taking turns on each prompt: median over
    prompts. heats: of (target, draft, gamma); gamma 0 is plain decoding."""
    found = []
    with progress.task("decoding with the best combinations, in turn", total=len(prompts) * len(heats)) as task:
        for heat in heats:
            engines = [(one, _engine(pair, models, one, device)) for one in dict.fromkeys(heat)]
            times: dict[tuple[str, str, int], list[float]] = {one: [] for one, _ in engines}
            for turn, prompt in enumerate([prompts[0], *prompts]):  # the first is a warm-up
                for one, engine in engines:
                    generation = engine.generate(prompt, max_new_tokens, gamma=one[2] or None)
                    if turn and generation.tpot_s is not None:
                        times[one].append(generation.tpot_s * 1e3)
                if turn:
                    task.advance()
            for _, engine in engines:
                engine.close()
            del engine, engines
            gc.collect()
            found.append({one: {1: median(taken)} for one, taken in times.items() if taken})
    reference = heats[0][0]
    if any(reference not in heat for heat in found):  # its answers end with their first token: there is no time
        return {}
    return {one[:2]: times[1] for one, times in chained(found, reference).items()}


def _engine(pair: Pair, models: Models, one: tuple[str, str, int], device: str) -> NativeEngine:
    target, draft, gamma = one
    placed = _Placed(pair.root, pair.manifest, models.target[target], models.draft.get(draft, Path()))
    return NativeEngine(placed, device=device, mode="draft" if gamma else "plain")
