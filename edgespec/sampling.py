"""How the next token is chosen from the target's distribution, and where the answer ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import EdgespecError


class Biases(Mapping[int, float]):
    """Token id -> what is added to its logit; -inf forbids it. It cannot change, so it hashes and pickles."""

    def __init__(self, biases: Mapping[int, float] | Iterable[tuple[int, float]] = ()) -> None:
        pairs = biases.items() if isinstance(biases, Mapping) else biases
        self._of = {int(token): float(bias) for token, bias in pairs}

    def __getitem__(self, token: int) -> float:
        return self._of[token]

    def __iter__(self) -> Iterator[int]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)

    def __hash__(self) -> int:
        return hash(frozenset(self._of.items()))

    def __repr__(self) -> str:
        return repr(self._of)


NO_BIAS = Biases()


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy: always the likeliest token, which no filter removes and no seed changes.

    top_k 0, top_p 1 and min_p 0 switch those filters off; min_p keeps tokens of at least that share of the likeliest
    one's probability. seed None draws a fresh one.
    repetition_penalty (1 is off) scales the logits of tokens seen in prompt or answer; presence_penalty and
    frequency_penalty (0 is off) move those of tokens in the answer, once or per occurrence; logit_bias adds to a
    token's logit. These change the likeliest token too, so they act on greedy decoding.
    stop_token_ids, stop_strings: end the answer besides the model's own end of text.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default=NO_BIAS)
    stop_token_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < 100:
            raise EdgespecError(f"temperature must lie between 0 (greedy) and 100, not {self.temperature}")
        if not 0 <= self.top_k < 2**31:
            raise EdgespecError(f"top_k must be 0 (off) or more, and below 2^31, not {self.top_k}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise EdgespecError(f"seed must be 0 or more, and below 2^63, not {self.seed}")
        if not 0 < self.top_p <= 1:
            raise EdgespecError(f"top_p must lie above 0 and at most at 1 (off), not {self.top_p}")
        if not 0 <= self.min_p < 1:
            raise EdgespecError(f"min_p must be 0 (off) or more, and below 1, not {self.min_p}")
        if not 0 < self.repetition_penalty <= 100:
            raise EdgespecError(
                f"repetition_penalty must lie above 0 and at most at 100 (1 is off), not {self.repetition_penalty}"
            )
        for name in ("presence_penalty", "frequency_penalty"):
            if not -2 <= getattr(self, name) <= 2:
                raise EdgespecError(f"{name} must lie between -2 and 2 (0 is off), not {getattr(self, name)}")
        self._freeze()
        for token, bias in self.logit_bias.items():
            if token < 0 or math.isnan(bias) or bias == math.inf:
                raise EdgespecError(
                    "logit_bias maps token ids (0 or more) to numbers, or to -inf to forbid a token; got "
                    f"{token}: {bias}"
                )
        if any(token < 0 for token in self.stop_token_ids):
            raise EdgespecError(f"stop_token_ids must be 0 or more, not {min(self.stop_token_ids)}")
        if not all(self.stop_strings):
            raise EdgespecError("a stop string is empty, so it would end every answer at once; leave it out")

    def _freeze(self) -> None:
        """Take lists and dicts as callers write them, and keep what cannot change."""
        given: object = self.stop_strings
        if isinstance(given, str):
            raise EdgespecError(f"stop_strings must be a list of strings, not the one string '{given}'")
        try:
            object.__setattr__(self, "logit_bias", Biases(self.logit_bias))
            object.__setattr__(self, "stop_token_ids", tuple(int(token) for token in self.stop_token_ids))
            object.__setattr__(self, "stop_strings", tuple(str(text) for text in self.stop_strings))
        except (TypeError, ValueError) as error:
            raise EdgespecError(
                "logit_bias must map token ids to numbers, stop_token_ids be token ids and stop_strings be strings: "
                f"{error}"
            ) from error

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def penalized(self) -> bool:
        """Whether the logits depend on which tokens came before by rule, not by the model alone."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0

    def apply(self, config: Any) -> None:
        """Set an openvino_genai.GenerationConfig accordingly. Raises EdgespecError for what it cannot do."""
        if self.logit_bias:
            raise EdgespecError("openvino-genai has no logit_bias; leave it out, or use the native engine")
        config.do_sample = not self.greedy
        config.repetition_penalty = self.repetition_penalty
        config.presence_penalty = self.presence_penalty
        config.frequency_penalty = self.frequency_penalty
        if self.stop_token_ids:
            config.stop_token_ids = set(config.stop_token_ids) | set(self.stop_token_ids)
        if self.stop_strings:
            config.stop_strings = set(self.stop_strings)
        if self.greedy:
            return
        config.temperature = self.temperature
        config.top_p = self.top_p
        config.min_p = self.min_p
        if self.top_k:
            config.top_k = self.top_k
        if self.seed is not None:
            config.rng_seed = self.seed


GREEDY = Sampling()
