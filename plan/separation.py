"""Do a twin's tokens stay apart once weights and arithmetic are rounded? Tested on the written files, by sample."""

from __future__ import annotations

import math

import numpy as np

from edgespec.errors import EdgespecError

NOISE = 0.25
"""Disturbance of the hidden state, relative to its length, that the follower must survive. What is expected: the layers
add sqrt(2 * layers) / 100 (0.08 for 32), a turning MLP in groups of 4 bits about 0.17, bfloat16 0.01."""
LEAST = 0.1
"""The smallest lead of the follower's logit over the next, as a share of it."""

_GROUP = 128
_BLOCK = 1 << 22


def require_separation(hidden: np.ndarray, head: np.ndarray, followers: np.ndarray, width: int, seed: int) -> float:
    """The smallest lead among the samples, with `hidden` disturbed by NOISE and `head` rounded to 4 bits.

    hidden: f32 [samples, width], before the last norm. head: [vocabulary, width]. followers: i64 [samples].
    Raises EdgespecError when a sample's lead is below LEAST.
    """
    draw = np.random.default_rng([seed, 7])
    noise = draw.standard_normal(hidden.shape).astype(np.float32)
    length = np.linalg.norm(hidden, axis=1, keepdims=True)
    hidden = hidden + noise * (NOISE * length / np.linalg.norm(noise, axis=1, keepdims=True))
    first = np.empty(len(hidden), dtype=np.float32)
    second = np.full(len(hidden), -np.inf, dtype=np.float32)
    step = max(1, _BLOCK // width)
    for start in range(0, len(head), step):
        logits = hidden @ four_bits(np.asarray(head[start : start + step], dtype=np.float32)).T
        inside = np.flatnonzero((followers >= start) & (followers < start + step))
        first[inside] = logits[inside, followers[inside] - start]
        logits[inside, followers[inside] - start] = -np.inf
        np.maximum(second, logits.max(axis=1), out=second)
    lead = float(((first - second) / first).min()) if np.all(first > 0) else -1.0
    if lead < LEAST:
        raise EdgespecError(
            f"{len(head):,} tokens do not stay apart in a model {width} wide: rounded to 4 bits, a token's follower "
            f"leads by {max(lead, 0):.0%} of its logit, and {LEAST:.0%} is needed; take a wider model or a smaller "
            "vocabulary"
        )
    return lead


def four_bits(weights: np.ndarray) -> np.ndarray:
    """Rows rounded to 4 bits, symmetric, one scale for each 128 neighbours, or a row where 128 does not divide it."""
    rows, columns = weights.shape
    groups = weights.reshape(rows, -1, _GROUP if columns % _GROUP == 0 else columns)
    scale = np.maximum(np.abs(groups).max(axis=2, keepdims=True) / 7, np.float32(1e-12))
    return np.asarray((np.clip(np.round(groups / scale), -8, 7) * scale).reshape(rows, columns))


def require_separable(width: int, tokens: int, name: str) -> None:
    """Refuse early what `require_separation` would refuse once it is written: random vectors of this width are too
    close together for so many tokens.

    The nearest of n random unit vectors has a cosine of about sqrt(2 ln(n) / width); the follower's own lead must be
    left over LEAST after that and after NOISE, which adds as much again as its share.
    """
    nearest = (1 + NOISE) * math.sqrt(2 * math.log(tokens) / width)
    if 1 - nearest < LEAST + NOISE:
        raise EdgespecError(
            f"no twin of '{name}' can be built: {tokens:,} tokens do not stay apart in a model {width} wide; take a "
            "wider draft"
        )
