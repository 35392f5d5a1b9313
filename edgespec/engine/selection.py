"""Accepting one of several siblings so that what comes out is distributed as the target says: the mathematics, without
any random number, so that it can be enumerated as well as sampled.

key: p the target's distribution behind the parent, q the drafter's, both float64 [vocabulary]; x a child's token.

The children are looked at in the order drawn. `chance(x)` is the probability of accepting x, given that those before it
were rejected; `rejected(x)` is the state in which the next child is looked at; `rest()` is what the target's own token
is drawn from when none was accepted. Every state is immutable. Residuals follow from p as computed, so rounding of the
order 1e-16 is the only difference from p. Where a residual sums to zero, p is q to rounding and rejection has
probability zero; should it still be reached, p itself is the limit of the residuals and is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from .proposal import Proposal

Rule = Literal["rounds", "spectr"]
"""For siblings drawn with replacement: SpecInfer's rounds, or SpecTr's k-sequential selection."""


class Selection(Protocol):
    def chance(self, token: int) -> float: ...

    def rejected(self, token: int) -> Selection: ...

    def rest(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Chosen:
    """Children that were chosen, not drawn: q is 1 on each in turn, so min(1, p(x)/1) accepts and the residual is p
    without x. Together that is: draw from p, and accept when a child is what was drawn.

    tried: tokens rejected so far. left: p's mass without them.
    """

    p: np.ndarray
    tried: tuple[int, ...] = ()
    left: float = 1.0

    def chance(self, token: int) -> float:
        if token in self.tried or self.left <= 0:
            return 0.0
        return min(1.0, float(self.p[token]) / self.left)

    def rejected(self, token: int) -> Chosen:
        if token in self.tried:
            return self
        left = self.left - float(self.p[token])
        if left < 1e-3:  # the difference has lost digits: sum what is left instead
            left = float(_without(self.p, (*self.tried, token)).sum())
        return Chosen(self.p, (*self.tried, token), left)

    def rest(self) -> np.ndarray:
        return _normalized(_without(self.p, self.tried), self.p) if self.tried else self.p


@dataclass(frozen=True)
class Rounds:
    """Children drawn independently from q: one child is speculative sampling (Leviathan et al. 2023; Chen et al. 2023),
    several are SpecInfer's multi-round rejection (Miao et al. 2024): accept with min(1, p(x)/q(x)), else go on with the
    residual max(p - q, 0), normalised, in place of p."""

    p: np.ndarray
    q: np.ndarray

    def chance(self, token: int) -> float:
        return _ratio(self.p[token], self.q[token])

    def rejected(self, token: int) -> Rounds:
        return Rounds(_normalized(np.maximum(self.p - self.q, 0.0), self.p), self.q)

    def rest(self) -> np.ndarray:
        return self.p


@dataclass(frozen=True)
class Distinct:
    """Children drawn without replacement, each from q without those before it: recursive rejection sampling (Jeon et
    al. 2024, RSD). As `Rounds`, but the next round's q has lost x and is renormalised.

    p: this round's residual. q: the drafter's with the drawn tokens zeroed, of which the sum is `mass`.
    """

    p: np.ndarray
    q: np.ndarray
    mass: float = 1.0

    def chance(self, token: int) -> float:
        return _ratio(self.p[token], self.q[token] / self.mass) if self.mass > 0 else 0.0

    def rejected(self, token: int) -> Distinct:
        if self.mass <= 0:
            return self
        residual = _normalized(np.maximum(self.p - self.q / self.mass, 0.0), self.p)
        q = _without(self.q, (token,))
        return Distinct(residual, q, float(q.sum()))

    def rest(self) -> np.ndarray:
        return self.p


@dataclass(frozen=True)
class Spectr:
    """Children drawn independently from q, accepted by k-sequential selection (Sun et al. 2023, SpecTr, Algorithm 2):
    each with min(1, p(x) / (rho q(x))), the same for all k.

    With beta = sum min(q, p/rho), some child is accepted with probability a = 1 - (1-beta)^k, and it is distributed as
    min(q, p/rho)/beta. The rest is therefore drawn from (p - min(q, p/rho) a/beta) / (1 - a), a distribution whenever
    a <= rho beta, since min(q, p/rho) <= p/rho. That holds at rho = k, and the smallest such rho accepts most; it is
    found by bisection and taken from the safe side, so the result is exact however coarse the search.

    k: children in all, drawn independently of one another, whether or not they are still to be looked at.
    """

    p: np.ndarray
    q: np.ndarray
    k: int
    rho: float = field(default=0.0)

    def __post_init__(self) -> None:
        if not self.rho:
            object.__setattr__(self, "rho", _rho(self.p, self.q, self.k))

    def chance(self, token: int) -> float:
        return _ratio(self.p[token], self.rho * self.q[token])

    def rejected(self, token: int) -> Spectr:
        return self

    def rest(self) -> np.ndarray:
        covered = np.minimum(self.q, self.p / self.rho)
        beta = float(covered.sum())
        if beta <= 0:
            return self.p
        return _normalized(np.maximum(self.p - covered * (_any_of(beta, self.k) / beta), 0.0), self.p)


def selection(p: np.ndarray, proposal: Proposal, parent: int, children: int, rule: Rule = "rounds") -> Selection:
    """How the `children` tokens below `parent` are accepted, from how the proposal says they were made."""
    q = proposal.q.get(parent)
    if q is None:
        return Chosen(p)
    if children == 1:
        return Rounds(p, q)
    if not proposal.replaced:
        return Distinct(p, q)
    return Spectr(p, q, children) if rule == "spectr" else Rounds(p, q)


def _rho(p: np.ndarray, q: np.ndarray, k: int) -> float:
    """The smallest rho in [1, k], to 1e-6 and from above, with 1 - (1-beta(rho))^k <= rho beta(rho)."""
    support = np.flatnonzero(q)
    p, q = p[support], q[support]

    def safe(rho: float) -> bool:
        beta = float(np.minimum(q, p / rho).sum())
        return _any_of(beta, k) <= rho * beta

    low, high = 1.0, float(k)
    if safe(low):
        return low
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if safe(middle) else (middle, high)
    return high


def _any_of(beta: float, k: int) -> float:
    """1 - (1-beta)^k without losing digits to a small beta."""
    return 1.0 if beta >= 1 else -float(np.expm1(k * np.log1p(-beta)))


def _ratio(p: float, q: float) -> float:
    """min(1, p/q). A token of q = 0 cannot have been drawn from q: rejecting it is the safe side."""
    if q <= 0:
        return 0.0
    return 1.0 if p >= q else float(p / q)


def _without(weights: np.ndarray, tokens: tuple[int, ...]) -> np.ndarray:
    left = np.array(weights)
    left[list(tokens)] = 0.0
    return left


def _normalized(weights: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """`weights` scaled to sum 1; where they sum to zero, `otherwise` (see the module's note)."""
    total = float(weights.sum())
    if total <= 0:
        return otherwise
    scaled: np.ndarray = weights / total
    return scaled
