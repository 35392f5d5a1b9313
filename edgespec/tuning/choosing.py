"""Plugin settings: one kind after another is raced; the fastest that keeps the model's words is laid under the next.

Each kind is raced twice in shared blocks, with plain decoding and with one speculative way, the probe: a setting can
make a pass over one token faster and a pass over four slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..arms import Arm
from ..progress import Progress
from .measuring import Track
from .modes import under
from .race import Race
from .racing import run_races
from .scoring import Scores
from .settings import Properties, combined
from .world import Ask

MARGIN = 1.03
"""A setting has to beat what it replaces by this factor; below it, the simpler one is kept."""
PLAIN = Arm("plain", "plain")


@dataclass(frozen=True)
class Base:
    """Settings by name."""

    name: str = "default"
    settings: Properties = field(default_factory=dict)

    def with_variant(self, name: str, variant: Mapping[str, object], default_precision: str | None) -> Base:
        settings = combined(self.settings, variant, default_precision)
        return Base(name if self.name == "default" else f"{self.name}+{name}", settings)


class SettingsRace:
    """One kind of settings: the variants over what was found so far, for plain decoding and for the probe (None: there
    is no speculative way)."""

    def __init__(
        self,
        track: Track,
        variants: Mapping[str, Properties],
        plain: Base,
        probe: Base,
        way: Arm | None,
        default_precision: str | None,
    ):
        self._track = track
        self._bases: list[Base] = [plain] + ([probe] if way else [])
        self._entrants: list[dict[str, tuple[Arm, Base]]] = []
        for arm, base in zip([PLAIN, way] if way else [PLAIN], self._bases, strict=True):
            assert arm is not None
            laid = [base.with_variant(name, variant, default_precision) for name, variant in variants.items()]
            tried = [base, *(item for item in laid if item.settings != base.settings)]
            dressed = [(under(arm, item.name, item.settings, track.device), item) for item in tried]
            self._entrants.append({entrant.name: (entrant, item) for entrant, item in dressed})
        self.reference = under(PLAIN, plain.name, plain.settings, track.device)
        self.races: list[Race] = []

    def run(self, stages: Sequence[Sequence[Ask]], progress: Progress, what: str) -> None:
        """Race; what was measured when time is up counts."""
        self.races = [Race(list(entrants), len(stages)) for entrants in self._entrants]
        arms = {name: arm for entrants in self._entrants for name, (arm, _) in entrants.items()}
        run_races(self._track, self.races, arms, self.reference, stages, progress, f"settings, {what}")

    def choose(self, scores: Scores) -> tuple[Base, Base]:
        """The best for plain decoding and for the probe, among those that keep to the bounds on quality."""
        chosen = [
            self._best(race, entrants, base, scores)
            for race, entrants, base in zip(self.races, self._entrants, self._bases, strict=True)
        ]
        return chosen[0], chosen[-1]

    def arms(self) -> list[tuple[Race, Arm]]:
        """Every entrant with its race."""
        return [
            (race, arm)
            for race, entrants in zip(self.races, self._entrants, strict=True)
            for arm, _ in entrants.values()
        ]

    def _best(self, race: Race, entrants: Mapping[str, tuple[Arm, Base]], base: Base, scores: Scores) -> Base:
        """The fastest by at least MARGIN whose quality is within the bounds; what there was before when none is."""
        own = next(name for name, (_, item) in entrants.items() if item == base)
        sound = scores.of(base.settings).kept
        for name in race.measured:
            item = entrants[name][1]
            gain = race.lead_over(name, own)
            if sound and (gain is None or gain < math.log(MARGIN)):
                continue
            if item == base:
                continue
            score = scores.of(item.settings)
            if score.kept:
                return item
            race.out[name] = score.sentence()
        return base
