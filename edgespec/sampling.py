"""How the next token is chosen from the target's distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import EdgespecError


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy: always the likeliest token, which no filter removes and no seed changes.
    top_k 0 and top_p 1 switch those filters off. seed None draws a fresh one."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise EdgespecError(f"temperature must lie between 0 (greedy) and 100, not {self.temperature}")
        if not 0 <= self.top_k < 2**31:
            raise EdgespecError(f"top_k must be 0 (off) or more, and below 2^31, not {self.top_k}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise EdgespecError(f"seed must be 0 or more, and below 2^63, not {self.seed}")
        if not 0 < self.top_p <= 1:
            raise EdgespecError(f"top_p must lie above 0 and at most at 1 (off), not {self.top_p}")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    def apply(self, config: Any) -> None:
        """Set an openvino_genai.GenerationConfig accordingly."""
        config.do_sample = not self.greedy
        if self.greedy:
            return
        config.temperature = self.temperature
        config.top_p = self.top_p
        if self.top_k:
            config.top_k = self.top_k
        if self.seed is not None:
            config.rng_seed = self.seed


GREEDY = Sampling()
