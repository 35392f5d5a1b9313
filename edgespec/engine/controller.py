"""How far to draft at the next step: until the next token's expected gain no longer covers its cost on this machine.

key: n nodes proposed; share(i) chance that node i is on the accepted path; t(n) seconds of a target pass over n tokens.

A step over n nodes emits 1 + share(0) + ... + share(n-1) tokens on average and lasts overhead + n t_draft + t(n+1);
plain decoding emits 1 in t(1). Over a long answer what counts is tokens over time, so the n with the largest ratio is
taken, 0 among them. The shares are learned as the answer goes; everything else was measured beforehand. No clock is
read and nothing is drawn here: the same observations give the same decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import EdgespecError
from .costs import Pricing
from .proposal import ROOT, Proposal

Shape = Literal["chain", "tree"]

_LATE = 8.0
"""Trials in which a change is looked for."""
_SIGMAS = 2.5
_BEYOND = 8
"""Tokens past its budget that a draft which is sure of them may go on for."""
_UNSURE = 0.3
"""A chain ends before its budget once the next token's gain is below this share of its cost: the gain is a guess, and
the pass gets no shorter where the last one was longer."""
_TEXT = 20.0
"""Trials that all texts so far count for against those of the text at hand: with few, a streak of bad luck in a sampled
answer makes it plain to its end."""
_DOUBT = 4.0
"""Times the allowance for tries in a text in which drafting does not pay, while in texts at large it does clearly."""
_PAYS = 1.1
"""Times plain decoding's rate that is clear."""
_REVIEW = 16
"""Plain steps in a row after which it is worked out anew whether drafting pays: nothing is learned of the draft
meanwhile, and to work it out at every step took a fiftieth of a small model's."""
_REFUSED = 3
"""Tries refused in a row, over texts, after which a draft is taken to be hopeless and is tried half as often."""


@dataclass
class Share:
    """A share of successes that fades: of the last `memory` trials or so, but of the last few alone when those cannot
    be explained by the rest (more than 2.5 standard deviations away), so that a change is followed at once."""

    memory: float = 200.0
    hits: float = 0.0
    trials: float = 0.0
    _late_hits: float = 0.0
    _late_trials: float = 0.0

    def add(self, hit: float) -> None:
        """hit: 1 or 0, or the expectation where it is not known."""
        keep, keep_late = 1 - 1 / self.memory, 1 - 1 / _LATE
        self.hits, self.trials = self.hits * keep + hit, self.trials * keep + 1
        self._late_hits, self._late_trials = self._late_hits * keep_late + hit, self._late_trials * keep_late + 1
        mean = (self.hits + 0.5) / (self.trials + 1)
        alike = self._late_trials * (2 - 1 / _LATE) / (2 - self._late_trials / _LATE)  # (sum w)^2 / sum w^2
        if abs(self._late_hits / self._late_trials - mean) > _SIGMAS * (mean * (1 - mean) / alike) ** 0.5:
            self.hits, self.trials = self._late_hits, self._late_trials

    def mean(self, prior: float, weight: float) -> float:
        """The share, as if `weight` further trials had gone as `prior` says."""
        return (self.hits + weight * prior) / (self.trials + weight)


class Acceptance:
    """One drafter's running acceptance. Node 0 is the first proposed, so in a chain node i is position i+1.

    A node's share leans on its own trials and on its predecessor's share times how a share carries over: in a chain
    alpha, the chance that a token is accepted once those before it were; in a tree a slow fall.
    """

    def __init__(
        self, shape: Shape = "chain", *, prior: float = 0.7, weight: float = 3.0, within: Acceptance | None = None
    ) -> None:
        """prior: what alpha is taken to be, with the weight of `weight` trials, before anything is known. within: the
        acceptance of more proposals than these, whose running alpha is then the prior, and which learns too."""
        self._shape = shape
        self._prior = prior
        self._weight = weight
        self._within = within
        self._alpha = Share()
        self._nodes: list[Share] = []

    def observe(self, proposal: Proposal, path: Sequence[int], known: int | None = None) -> None:
        """path: the accepted nodes. known: the text is known for so many tokens only (the proposal was not shown to the
        target, but compared with what it then said). A node beyond counts as refused when one it hangs from was, and
        else for as much as it is expected to be worth: leaving it out would leave out the hard places."""
        kept = set(path)
        expected = [] if known is None else self.shares(len(proposal))
        depths: list[int] = []
        worth: list[float] = []
        for node, parent in enumerate(proposal.parents.tolist()):
            depths.append(1 + (depths[parent] if parent != ROOT else 0))
            if known is None or depths[node] <= known or parent == ROOT:
                worth.append(float(node in kept))
            else:
                worth.append(worth[parent] * min(1.0, expected[node] / expected[parent]))
        if self._shape == "tree":
            trials = [float(bool(path))]
        else:
            judged = len(proposal) if known is None else min(known, len(proposal))
            trials = [float(position < len(path)) for position in range(min(len(path) + 1, judged))]
        learning: Acceptance | None = self
        while learning is not None:
            learning._learn(worth, trials)
            learning = learning._within

    def _learn(self, worth: Sequence[float], trials: Sequence[float]) -> None:
        """worth: of each node. trials: of alpha."""
        while len(self._nodes) < len(worth):
            self._nodes.append(Share())
        for share, hit in zip(self._nodes, worth, strict=False):
            share.add(hit)
        for hit in trials:
            self._alpha.add(hit)

    @property
    def alpha(self) -> float:
        """chain: chance that a proposed token is accepted given those before it; tree: that any first token is."""
        return self._alpha.mean(self._prior if self._within is None else self._within.alpha, self._weight)

    def shares(self, n: int) -> list[float]:
        """share(0) .. share(n-1)."""
        alpha = self.alpha
        shares: list[float] = []
        before = 1.0
        for node in range(n):
            expected = before * (alpha if self._shape == "chain" else 0.5 * alpha if not node else 0.85)
            weight = 80.0 if self._shape == "chain" else 8.0
            share = self._nodes[node].mean(expected, weight) if node < len(self._nodes) else expected
            before = share if self._shape == "tree" else min(before, share)
            shares.append(before)
        return shares


def best_length(costs: Pricing, shares: Sequence[float]) -> tuple[int, float]:
    """(n, tokens a second) of the best number of nodes to propose, 0 being plain decoding."""
    best, rate, emitted = 0, 1 / costs.step(0), 1.0
    for n, share in enumerate(shares, start=1):
        emitted += share
        if emitted / costs.step(n) > rate:
            best, rate = n, emitted / costs.step(n)
    return best, rate


@dataclass
class Controller:
    """Decides the budget of every step for one drafter: ask `budget`, propose, verify, `observe`. It outlives a text,
    if each starts with `begin`: the alpha that all taught is where the next begins, for as much as _TEXT of its trials.

    When drafting does not pay it says 0, and every plain step earns `allowance` of its time. Whenever that covers what
    one proposed token would lose if refused, one is tried; as long as tries succeed, the next follows at once. So a
    hopeless draft costs the first few steps and at most `allowance` of the time from then on, half of it once _REFUSED
    tries in a row were refused. In a text that looks hopeless while drafting pays at large, it is _DOUBT times that.

    A drafter that can tell how sure it is of each token asks `more` as it goes, up to `limit`; what its confidence is
    worth is learned, too.

    most: nodes at most.
    """

    costs: Pricing
    most: int = 8
    shape: Shape = "chain"
    allowance: float = 0.015
    acceptance: Acceptance = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.most < 1 or not 0 <= self.allowance < 1:
            raise EdgespecError(
                f"a controller needs room for at least 1 token and an allowance in [0, 1), not {self.most} and "
                f"{self.allowance}"
            )
        self.acceptance = self._lasting = self.acceptance or Acceptance(self.shape)
        self._planned, self._room, self._plain_steps = 0, self.most, 0
        self._rate: float | None = None
        self._pays: bool | None = False
        self._earned = 0.0
        self._trying = False
        self._staked = 0.0
        self._refused = 0
        self._by_confidence = [Share() for _ in range(8)]

    def begin(self) -> None:
        """A new text."""
        self.acceptance = Acceptance(self.shape, weight=_TEXT, within=self._lasting)
        self._rate = self._pays = None
        self._plain_steps = 0

    def budget(self, most: int | None = None) -> int:
        """Nodes worth proposing now, at most `most` (near the end of an answer)."""
        most = self.most if most is None else min(most, self.most)
        if most < 1:
            self._planned, self._room, self._trying, self._rate = 0, 0, False, None
            return 0
        self._room = most
        if self._planned or self._plain_steps % _REVIEW == 0:
            self._planned, self._rate = best_length(self.costs, self.acceptance.shares(most))
        self._staked = self._loss
        self._trying = not self._planned and self._earned >= self._staked
        self._planned = self._planned or int(self._trying)
        return self._planned

    @property
    def limit(self) -> int:
        """Nodes at which a drafter that asks `more` ends at the latest."""
        return self._planned if self._trying else min(self._planned + _BEYOND, self._room)

    @property
    def rate(self) -> float:
        """Tokens a second expected of the last budget."""
        if self._rate is None:
            _, self._rate = best_length(self.costs, self.acceptance.shares(self.most))
        return self._rate

    @property
    def _loss(self) -> float:
        """Seconds lost when one proposed token is refused; a text's first costs a draft model the prompt, too."""
        return self.costs.trial

    def more(self, confidences: Sequence[float]) -> bool:
        """Whether a chain of tokens drafted with these confidences deserves one more: whether the tokens that it is
        expected to bring are more than come in its time otherwise. Within the budget _UNSURE of that is enough.

        Asked before the next token is drawn, so what is proposed stays distributed as q.
        """
        n = len(confidences)
        if n >= self.limit:
            return False
        reached = self.acceptance.alpha
        for confidence in confidences:
            reached *= self._bucket(confidence).mean(confidence, 4.0)
        cost = self.costs.step(n + 1) - self.costs.step(n)
        return reached > (_UNSURE if n < self._planned else 1.0) * cost * self.rate

    def _bucket(self, confidence: float) -> Share:
        return self._by_confidence[min(int(confidence * 8), 7)]

    @property
    def trying(self) -> bool:
        """Whether the last budget was a try, not expected to pay."""
        return self._trying

    def observe(self, proposal: Proposal, path: Sequence[int], confidences: Sequence[float] = ()) -> None:
        """What became of the proposal; an empty one was a plain step. confidences: as given to `more`."""
        if not len(proposal):
            self._plain_steps += 1
            share = self.allowance / (1 if self._refused < _REFUSED else 2)
            if self._pays is None:  # once a text: it would take a hundredth of a small model's plain step
                _, rate = best_length(self.costs, self._lasting.shares(self.most))
                self._pays = rate * self.costs.step(0) > _PAYS
            share *= _DOUBT if self._pays else 1.0
            self._earned = min(self._earned + share * self.costs.step(0), 2 * self._loss)
            return
        self._plain_steps = 0
        self.acceptance.observe(proposal, path)
        if path:
            self._refused = 0
        if self._trying and path:
            self._earned = max(self._earned, self._staked)
        elif self._trying:
            self._refused += 1
            self._earned -= self._staked
        for position, confidence in enumerate(confidences[: len(path) + 1]):
            self._bucket(confidence).add(position < len(path))
