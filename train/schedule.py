"""The learning rate over a run: warm-up, then a cosine or a plateau with a decay (WSD), as a pure function of the step.

There is no scheduler state to save: a resumed run computes the same rate from the same step.

Sources: cosine, Loshchilov & Hutter 2017 (arXiv:1608.03983); warm-up, stable, decay, Hu et al. 2024, "MiniCPM"
(arXiv:2404.06395); a linear decay to zero, Hägele et al. 2024 (arXiv:2405.18392).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgespec.errors import EdgespecError

Shape = Literal["cosine", "wsd"]


@dataclass(frozen=True)
class Schedule:
    """How the rate goes over a run, as shares of its steps.

    warmup: share over which it rises linearly from (almost) zero to the peak.
    shape: "cosine" falls from there to `floor` over all that is left; "wsd" stays at the peak and falls linearly to
    `floor` over the last `decay`.
    floor: where it ends, as a share of the peak.
    """

    shape: Shape = "cosine"
    warmup: float = 0.02
    decay: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in ("cosine", "wsd"):
            raise EdgespecError(f"the schedule '{self.shape}' is not known; choose cosine or wsd")
        for name in ("warmup", "decay", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise EdgespecError(f"the schedule's {name} is {getattr(self, name)}; give a share between 0 and 1")
        if self.shape == "wsd" and self.warmup + self.decay > 1:
            raise EdgespecError(
                f"warm-up ({self.warmup}) and decay ({self.decay}) of the schedule are more than the whole run together"
            )

    def factor(self, step: int, steps: int) -> float:
        """Multiplier of the peak rate for optimizer step `step` (0 is the first) of `steps`."""
        rising = self.warmup * steps
        if step < rising:
            return (step + 1) / (rising + 1)
        if self.shape == "cosine":
            done = (step - rising) / max(1.0, steps - rising)
            return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
        left, falling = steps - step, self.decay * steps
        return 1.0 if left >= falling else self.floor + (1 - self.floor) * left / falling
