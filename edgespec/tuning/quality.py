"""What plugin settings do to the target's words: its next-token distributions under them against exact ones.

By teacher forcing: the same text is fed under both, and at each place the two distributions of the next token are
compared. So one rounding that tips one token does not count for all that follow, as it would in free generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgespecError
from ..profile import Quality

CHUNK = 4
"""Tokens fed at a time behind the prompt, about as many as a step verifies: what the KV cache rounds shows only in
passes that read it back, and a pass a token would take four times as long."""
PROMPT_PLACES = 32
"""Places at the end of a prompt that are compared too; there the text is a person's, not the model's."""


@dataclass(frozen=True)
class Bounds:
    """What is still the same model. A setting is kept when the likeliest token agrees at this share of places, and the
    mean KL(exact, settings) is at most so many nats a token."""

    least_top1_agreement: float = 0.98
    most_kl_nats: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.least_top1_agreement <= 1 or self.most_kl_nats < 0:
            raise EdgespecError(
                f"the bounds are an agreement of {self.least_top1_agreement:g} and a KL of {self.most_kl_nats:g}; an "
                "agreement lies between 0 and 1, and a KL is 0 or more"
            )

    def keep(self, quality: Quality) -> bool:
        return quality.top1_agreement >= self.least_top1_agreement and quality.kl_nats <= self.most_kl_nats


def forced_logits(
    folder: Path, device: str, settings: Mapping[str, Any], texts: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """Logits f32 [places, vocabulary] of the model in `folder`, at every place of `texts`: (prompt, answer) each.

    A prompt gives its last PROMPT_PLACES places, the last of them predicting the answer's first token; an answer of n
    tokens gives n - 1 more.
    """
    from ..engine.stateful import StatefulModel

    model = StatefulModel(str(folder / "openvino_model.xml"), device, settings)
    found = []
    for prompt, answer in texts:
        model.reset()
        found.append(model.feed(np.asarray(prompt, np.int64))[-PROMPT_PLACES:].copy())
        for start in range(0, len(answer) - 1, CHUNK):
            found.append(model.feed(np.asarray(answer[start : min(start + CHUNK, len(answer) - 1)], np.int64)).copy())
    return np.concatenate(found).astype(np.float32, copy=False)


def distance(exact: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """(share of places whose likeliest token is the same, mean KL(exact, other) in nats); logits [places, vocabulary].

    Places are taken in blocks, so that a large vocabulary needs no second copy of everything.
    """
    if exact.shape != other.shape or not len(exact):
        raise EdgespecError(f"logits of shape {other.shape} cannot be compared with those of shape {exact.shape}")
    agreeing, divergence = 0, 0.0
    for start in range(0, len(exact), 64):
        p, q = (log_softmax(part[start : start + 64]) for part in (exact, other))
        agreeing += int((p.argmax(-1) == q.argmax(-1)).sum())
        divergence += float((np.exp(p) * (p - q)).sum())
    if not np.isfinite(divergence):
        return agreeing / len(exact), float("inf")
    return agreeing / len(exact), max(0.0, divergence) / len(exact)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """f64, over the last axis."""
    wide = np.asarray(logits, np.float64)
    shifted = wide - wide.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
