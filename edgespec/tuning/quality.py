"""What plugin settings do to the target's words: its next-token distributions under them against exact ones.

By teacher forcing: the same text is fed under both, and at each place the two distributions of the next token are
compared. So one rounding that tips one token does not count for all that follow, as it would in free generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
BLOCK_ELEMENTS = 1 << 20
"""Logits that are widened to f64 at once, 8 MB an array: four rows of a vocabulary of 262,144. All rows of a text at
once took 0.67 GB there."""
WORKING_BYTES = 4 * 8 * BLOCK_ELEMENTS
"""Of comparing logits, at most: both distributions of a block, and what numpy makes on the way."""


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
    """(share of places whose likeliest token is the same, mean KL(exact, other) in nats); logits
    [places, vocabulary]."""
    if exact.shape != other.shape or not len(exact):
        raise EdgespecError(f"logits of shape {other.shape} cannot be compared with those of shape {exact.shape}")
    agreeing, divergence = compared(exact, other)
    if not np.isfinite(divergence):
        return agreeing / len(exact), float("inf")
    return agreeing / len(exact), max(0.0, divergence) / len(exact)


def compared(exact: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """(places whose likeliest token is the same, sum of KL(exact, other) over places in nats); logits [places,
    vocabulary] of one shape. Holds WORKING_BYTES beside them at most, whatever their size."""
    agreeing, divergence = 0, 0.0
    for rows in row_blocks(exact):
        p = log_softmax(exact[rows])
        q = log_softmax(other[rows])
        agreeing += int((p.argmax(-1) == q.argmax(-1)).sum())
        np.subtract(p, q, out=q)
        np.exp(p, out=p)
        divergence += float(np.vdot(p, q))
    return agreeing, divergence


def log_chances(logits: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Log-probability f64 [places] of one token at each place; logits [places, vocabulary]. Holds WORKING_BYTES beside
    them at most."""
    found = np.empty(len(tokens))
    for rows in row_blocks(logits):
        own = np.asarray(tokens[rows])
        found[rows] = log_softmax(logits[rows])[np.arange(len(own)), own]
    return found


def row_blocks(logits: np.ndarray) -> Iterator[slice]:
    """The rows of logits [places, vocabulary] in blocks of BLOCK_ELEMENTS, at least a row each."""
    at_once = max(1, BLOCK_ELEMENTS // logits.shape[-1])
    for start in range(0, len(logits), at_once):
        yield slice(start, min(start + at_once, len(logits)))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """f64, over the last axis: the result, and for a while one array of its size."""
    shifted = np.array(logits, np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted
