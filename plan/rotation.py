"""How a model whose head is its embedding follows a cycle: embeddings on circles, and one MLP that turns them.

With one matrix E for both ends, E @ hidden scores a token against itself highest, and no norm weight changes that: a
diagonal scale between E and E is symmetric, so t scores u as u scores t, and on a closed cycle no token could prefer
its follower to its predecessor. Something in between must turn. Here it is the last layer's MLP, dense and of its own
size like every other:

- Token k of the cycle's N has, in plane j, the coordinates sqrt(2) * (cos, sin)(2*pi*m_j*k/N), with whole, different
  m_j, so that turning plane j by 2*pi*m_j/N takes every token to the next and the last to the first. Two tokens d apart
  have the cosine mean_j cos(2*pi*m_j*d/N), of the size of random vectors'; the largest over all d is known exactly,
  from one Fourier transform, and the m_j are the best of a few draws.
- A sixteenth of the coordinates is 1 or -1, the same for all tokens. The gate reads those, so that it is open
  (act(GATE) = GATE) whatever the token: the gated MLP is then linear. Its up projection is a random matrix with
  orthogonal columns, its down projection the transpose, turned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgespec.errors import EdgespecError

GATE = 8.0
"""What an open gate lets through: silu(8) = 7.997, tanh-gelu(8) = 8."""
TURN = 8.0
"""Length of the turned vector that is added to the token's own (both of root mean square 1 before it)."""
_DRAWS = 8


@dataclass(frozen=True)
class Rotation:
    """signs: f32 [constant coordinates]. frequencies: i64 [planes]. closeness: largest cosine of two tokens."""

    hidden: int
    length: int
    signs: np.ndarray
    frequencies: np.ndarray
    closeness: float

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Embeddings of the tokens at `positions` of the cycle, of root mean square 1. f32 [n, hidden]"""
        rows = np.empty((len(positions), self.hidden), dtype=np.float32)
        constant = len(self.signs)
        rows[:, :constant] = self.signs
        turns = positions[:, None] * self.frequencies % self.length  # whole numbers: exact for any position
        angles = turns.astype(np.float32) * np.float32(2 * np.pi / self.length)
        rows[:, constant::2] = np.sqrt(2) * np.cos(angles)
        rows[:, constant + 1 :: 2] = np.sqrt(2) * np.sin(angles)
        return rows

    def turned(self, rows: np.ndarray) -> np.ndarray:
        """`rows` [n, hidden] with each plane turned by one token and the constant coordinates 0."""
        constant = len(self.signs)
        angles = 2 * np.pi * self.frequencies / self.length
        cos, sin = np.cos(angles).astype(rows.dtype), np.sin(angles).astype(rows.dtype)
        out = np.zeros_like(rows)
        x, y = rows[:, constant::2], rows[:, constant + 1 :: 2]
        out[:, constant::2] = cos * x - sin * y
        out[:, constant + 1 :: 2] = sin * x + cos * y
        return out

    def mlp(self, intermediate: int, noise: float, seed: int) -> dict[str, np.ndarray]:
        """The weights of the turning MLP by role: gate and up f32 [intermediate, hidden], down [hidden, intermediate].

        Its input is a token's embedding, its output TURN times the embedding's part that turns, turned. noise:
        standard deviation of the weights that need no value.
        """
        draw = np.random.default_rng([seed, 4])
        gate = draw.standard_normal((intermediate, self.hidden), dtype=np.float32) * np.float32(noise)
        gate[:, : len(self.signs)] = self.signs * np.float32(GATE / len(self.signs))
        up = np.linalg.qr(draw.standard_normal((intermediate, self.hidden), dtype=np.float32))[0]
        down = self.turned(up).T * np.float32(TURN / GATE * np.sqrt(self.hidden / intermediate))
        return {"gate": gate, "up": up * np.float32(np.sqrt(intermediate / self.hidden)), "down": down}


def choose_rotation(hidden: int, intermediate: int, length: int, seed: int) -> Rotation:
    """A rotation for a cycle of `length` tokens in a model of these sizes.

    Raises EdgespecError when the MLP is narrower than the model, so that nothing linear passes through it whole.
    """
    if intermediate < hidden:
        raise EdgespecError(
            f"a twin whose head is its embedding needs an MLP at least as wide as its {hidden} hidden units, not "
            f'{intermediate}; set "tie_word_embeddings": false in the config'
        )
    draw = np.random.default_rng([seed, 5])
    planes = (hidden - max(2, hidden // 16)) // 2
    signs = draw.choice(np.array([-1, 1], dtype=np.float32), hidden - 2 * planes)
    possible = (length - 1) // 2
    best = None
    for _ in range(_DRAWS):
        frequencies = 1 + draw.choice(possible, planes, replace=planes > possible)
        spectrum = np.bincount(frequencies, minlength=length)
        closeness = float(np.fft.fft(spectrum).real[1:].max()) / planes
        if best is None or closeness < best[0]:
            best = closeness, frequencies
    assert best is not None
    return Rotation(hidden, length, signs, best[1], best[0])
