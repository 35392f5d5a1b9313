"""What is measured of twins on this machine, in one place, so that a test can hand in a scripted machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgespec.engine.model import ModelSequence
from edgespec.engine.passes import time_iterations
from edgespec.engine.proposal import Drafter
from edgespec.pair import Pair

from .step_model import Answer, StepModel
from .turns import Alternating, pairs_of, timed
from .walks import Walk
from .weigh import Weighed, weigh

CHAINS = (1, 2, 3, 4, 6, 8)
LENGTHS = (*CHAINS, 12, 16)
"""Tokens of a target pass that are timed: chains, and trees, which are larger and dearer to time."""
WIDE = 4
"""Tokens of a draft pass over a level of a tree."""
CONTEXT = 64


class Runner(Protocol):
    """A pair that is loaded."""

    def passes(self, lengths: Sequence[int]) -> StepModel:
        """A few passes of each kind, quick enough to stand within an answer. lengths: of the target's."""

    def answer(self, walk: Walk, alpha: float, gamma: int, lengths: Sequence[int]) -> Answer:
        """Decode `walk`'s answer, by turns with the draft and without, with such passes in its midst; no lengths: with
        none (see turns.py)."""

    def close(self) -> None: ...


class Machine(Protocol):
    def weigh(
        self, folder: Path, settings: Mapping[str, Any], lengths: Sequence[int], budget_s: float, *, draft: bool
    ) -> Weighed: ...

    def open(self, pair: Pair, settings: Mapping[str, Any]) -> Runner: ...


@dataclass(frozen=True)
class RealMachine:
    """Devices of this machine, as OpenVINO names them."""

    device: str
    draft_device: str | None = None

    def weigh(
        self, folder: Path, settings: Mapping[str, Any], lengths: Sequence[int], budget_s: float, *, draft: bool
    ) -> Weighed:
        device = self.draft_device if draft and self.draft_device else self.device
        return weigh(folder, device, settings, lengths, budget_s)

    def open(self, pair: Pair, settings: Mapping[str, Any]) -> Runner:
        return NativeRunner(pair, self.device, self.draft_device, settings)


class NativeRunner:
    """The native engine, which decodes plainly and speculatively on one copy of the weights. See Runner."""

    def __init__(self, pair: Pair, device: str, draft_device: str | None, settings: Mapping[str, Any]) -> None:
        from edgespec.engine.model import open_model
        from edgespec.engine.native import NativeEngine

        assert pair.draft is not None
        self._vocabulary = pair.manifest.target.vocab_size
        self._engine = NativeEngine(pair, device=device, draft_device=draft_device, mode="draft", settings=settings)
        self._engine.watch_drafter(self._by_turns)
        self._draft = open_model(pair.draft, draft_device or device, settings)
        self._turning: Alternating | None = None
        self._timing: tuple[ModelSequence, ModelSequence] | None = None
        self._lengths: Sequence[int] = ()
        self._pause = 1
        self._between: StepModel | None = None
        self._timings = 0

    def passes(self, lengths: Sequence[int]) -> StepModel:
        cold = self._timing is None
        self._timing = self._timing or (self._engine.timing_sequence(), self._draft.sequence())
        target, draft = self._timing
        how: dict[str, Any] = {
            "vocabulary": self._vocabulary,
            "context": CONTEXT,
            "repetitions": 1,
            "warm_up": cold,
            "seed": self._timings,  # lengths in another order each time
        }
        self._timings += 1
        times = time_iterations(target, draft, lengths=lengths, **how)
        alone = time_iterations(draft, None, lengths=(WIDE,), **how)["target"]
        return StepModel(times["target"], times["draft"], alone[WIDE] / alone[1])

    def answer(self, walk: Walk, alpha: float, gamma: int, lengths: Sequence[int]) -> Answer:
        self._lengths, self._pause, self._between = lengths, pairs_of(walk.steps) // 2, None
        steps = self._engine.generate(walk.prompt, walk.tokens, gamma=gamma).steps[1:]
        assert self._turning is not None
        return Answer(*timed(alpha, gamma, steps, self._turning.seconds), self._between)

    def _by_turns(self, drafter: Drafter) -> Drafter:
        self._turning = Alternating(drafter, self._time, self._pause)
        return self._turning

    def _time(self) -> None:
        if self._lengths:
            self._between = self.passes(self._lengths)

    def close(self) -> None:
        self._engine.close()
        del self._draft, self._timing
