"""Scores of plugin settings against the exact reference, each made once and only when a decision hangs on it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgespecError
from ..pair import Pair
from ..profile import Quality
from ..resources import require_disk
from ..settings import EXACT, describe
from .quality import Bounds, distance
from .settings import numerics
from .world import World

REFERENCE_DEVICE = "CPU"
"""The exact reference is the same wherever the pair is tuned, and a CPU computes in f32 when it is told to."""
Text = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class Score:
    """quality: None when it could not be scored, and `problem` says why."""

    quality: Quality | None
    kept: bool
    problem: str | None = None

    def sentence(self) -> str:
        if self.quality is None:
            return self.problem or "not scored"
        found = self.quality
        how = f"top-1 agreement {found.top1_agreement:.2%}, KL {found.kl_nats:.1e} nats over {found.tokens} tokens"
        if self.kept:
            return how
        return (
            f"{how}; outside the bounds of {found.least_top1_agreement:.2%} and {found.most_kl_nats:g} nats, so it is "
            "not used"
        )


class Scores:
    """`texts` has to be set before anything is scored. Use as a context manager: it keeps logits in a temporary folder.

    scored: False where the device runs no ordinary stateful model (an NPU); settings that change no numbers are kept
    there, others are not.
    """

    def __init__(self, world: World, pair: Pair, device: str, bounds: Bounds, *, scored: bool = True) -> None:
        self._world, self._pair, self._device, self._bounds = world, pair, device, bounds
        self._scored = scored
        self._reference: np.ndarray | None = None
        self._problem: str | None = None if scored else f"settings cannot be scored on {device}"
        self._folder = tempfile.TemporaryDirectory(prefix="edgespec-tune-", ignore_cleanup_errors=True)
        self.texts: Sequence[Text] = ()
        self.made: dict[str, Score] = {}

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *_: object) -> None:
        self._reference = None
        self._folder.cleanup()

    def of(self, settings: Mapping[str, Any]) -> Score:
        """The score of `settings`; those that differ only in where the work is done share it."""
        changed = numerics(settings)
        key = describe(changed)
        if key not in self.made:
            self.made[key] = self._score(changed)
        return self.made[key]

    def _score(self, settings: Mapping[str, Any]) -> Score:
        if not self.texts:
            return Score(None, kept=not settings, problem="it was not scored: there was no time for an answer")
        if self._reference is None and self._problem is None:
            try:
                self._reference = self._logits(REFERENCE_DEVICE, EXACT)
            except EdgespecError as error:
                self._problem = f"the exact reference could not be computed: {error}"
        if self._reference is None:
            return Score(None, kept=not settings, problem=self._problem)
        try:
            agreement, kl = distance(self._reference, self._logits(self._device, settings))
        except EdgespecError as error:
            return Score(None, kept=not settings, problem=f"it could not be scored: {error}")
        quality = Quality(
            top1_agreement=agreement,
            kl_nats=kl,
            tokens=len(self._reference),
            least_top1_agreement=self._bounds.least_top1_agreement,
            most_kl_nats=self._bounds.most_kl_nats,
        )
        return Score(quality, self._bounds.keep(quality))

    def _logits(self, device: str, settings: Mapping[str, Any]) -> np.ndarray:
        folder = Path(self._folder.name)
        places = sum(len(prompt) + len(answer) for prompt, answer in self.texts)
        require_disk(folder, 4 * places * self._pair.manifest.target.vocab_size)
        out = folder / "logits.npy"
        self._world.force(self._pair, device=device, settings=settings, texts=self.texts, out=out)
        logits = np.load(out, allow_pickle=False)
        out.unlink()
        return np.asarray(logits)
