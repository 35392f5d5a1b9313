"""What a draft is trained to minimise: cross-entropy on the target's text, and distances to the target's distribution.

key: p the target's next-token distribution, q the draft's, both over the vocabulary; A = 1{p > q}; all in nats a
position.

| name | loss of a position | source |
|---|---|---|
| ce | -log q(token), the token the target wrote | sequence-level distillation: Kim and Rush 2016; FastDraft |
| kl | sum p log(p / q) | Hinton et al. 2015 |
| reverse-kl | sum q log(q / p) | MiniLLM, Gu et al. 2023 |
| js | (KL(p, m) + KL(q, m)) / 2, m = (p + q) / 2 | f-distillation, Wen et al. 2023; DistillSpec |
| tvd | sum abs(p - q) / 2 = 1 - sum min(p, q) | Leviathan et al. 2022: sum min(p, q) is the chance of acceptance |
| tvd++ | the policy gradient E_q[-grad log q (A - mean) / std] | Goel et al. 2024, arXiv:2403.00858 |

**TVD++.** The gradient of tvd is E_q[-grad log q . A]: a policy gradient with reward A. TVD++ normalises the reward by
its mean and standard deviation over the batch's positions and outcomes. Here the expectation over q is a sum over the
vocabulary, not a sample, so the mean cancels exactly (sum q grad log q = 0) and what remains is the tvd gradient over
the reward's deviation; it is computed as tvd / std with std held constant, which has that gradient and keeps a value
that means something. A test holds it against the policy gradient written out.

**Top-k.** A target's distribution may be known only as its k likeliest tokens S and what is left over, r = 1 - p(S).
Every distance is then taken between the two distributions of k + 1 outcomes, the tokens of S and one bucket "any
other": an outcome's q is the sum of its tokens'. What that does to each loss:

- kl, reverse-kl, js, tvd are f-divergences, so merging outcomes can only lower them (data processing), and what is
  ignored is how the draft spreads its mass inside the bucket. The bucket is needed: without it KL over S alone would
  push q out of the rest altogether, or, renormalised, would never punish mass there.
- kl is short by r KL(p_rest, q_rest), with p_rest and q_rest the shares inside the bucket: little as r is little.
- reverse-kl and js are short by as much weighted with q(rest); reverse-kl sees log(q(rest) / r), so r is taken as no
  less than REST_FLOOR: p cached in 16 or 32 bits says nothing of smaller remainders, and an r of 0 would be an infinite
  loss.
- tvd is short by at most min(r, q(rest)): the acceptance that it promises is too high by no more than that.
- tvd++ gives the bucket one reward; its mean and deviation are over k + 1 outcomes a position, and so the step is
  scaled otherwise than over the whole vocabulary. Its direction is that of tvd.
- ce does not look at p at all.

**At a temperature.** `tvd@0.6` is the distance between both distributions as they are served at temperature 0.6,
p^(1/T) and q^(1/T) renormalised; all but ce can be taken so, for T up to 1; 1 - tvd@T is the acceptance at T. Whether a
draft gains by it was not measured yet. Of a top-k target the bucket's share at T is not
known: sum p_i^(1/T) over it is at most r p_k^(1/T - 1), p_k the least likely of S, and is taken for that much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from edgespec.errors import EdgespecError

REST_FLOOR = 1e-6
"""The least that the target's probability of "any other token" is taken for."""


Head = Callable[[torch.Tensor], torch.Tensor]
"""[n, width] -> logits [n, vocabulary]."""


@dataclass(frozen=True)
class TargetView:
    """What is known of the target's next-token distribution at n positions.

    log_probs: f32 [n, vocabulary] when `indices` is None; else f32 [n, k], those of the tokens `indices` (integers
    [n, k]), which are not renormalised: what they lack of 1 is the bucket's.
    """

    log_probs: torch.Tensor
    indices: torch.Tensor | None = None

    def at(self, temperature: float) -> TargetView:
        """The distribution at a temperature in (0, 1]."""
        if temperature == 1:
            return self
        scaled = self.log_probs / temperature
        if self.indices is None:
            return TargetView(scaled.log_softmax(-1))
        rest = (1 - self.log_probs.exp().sum(-1)).clamp_min(0).log() + (1 / temperature - 1) * self.log_probs.amin(-1)
        total = torch.cat([scaled, rest[..., None]], -1).logsumexp(-1, keepdim=True)
        return TargetView(scaled - total, self.indices)

    def rows(self, start: int, stop: int) -> TargetView:
        indices = None if self.indices is None else self.indices[start:stop]
        return TargetView(self.log_probs[start:stop], indices)

    def seen(self) -> TargetView:
        return self


@dataclass(frozen=True)
class AskedTarget:
    """The target's hidden states [n, width] and its head: its whole distribution exists for a chunk at a time only."""

    hidden: torch.Tensor
    head: Head

    def rows(self, start: int, stop: int) -> AskedTarget:
        return AskedTarget(self.hidden[start:stop], self.head)

    def seen(self) -> TargetView:
        with torch.no_grad(), torch.autocast(self.hidden.device.type, enabled=False):
            return TargetView(torch.log_softmax(self.head(self.hidden).float(), dim=-1))


def outcomes(log_q: torch.Tensor, target: TargetView) -> tuple[torch.Tensor, torch.Tensor]:
    """(log p, log q), each [n, outcomes]: the whole vocabulary, or the top-k tokens and the bucket of all others.

    log_q: [n, vocabulary]. The draft's share of the bucket is summed over its own tokens, so that it is exact and has
    a gradient however small it is.
    """
    if target.indices is None:
        return target.log_probs, log_q
    indices = target.indices.long()
    chosen = log_q.gather(-1, indices)
    if indices.shape[-1] == log_q.shape[-1]:  # nothing is left over
        return target.log_probs, chosen
    rest_q = log_q.scatter(-1, indices, -torch.inf).logsumexp(-1, keepdim=True)
    rest_p = (1 - target.log_probs.exp().sum(-1, keepdim=True)).clamp_min(REST_FLOOR).log()
    return torch.cat([target.log_probs, rest_p], -1), torch.cat([chosen, rest_q], -1)


Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(log p, log q), each [n, outcomes] -> [n]."""


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return _weighted(log_p.exp(), log_p - log_q)


def reverse_kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return _weighted(log_q.exp(), log_q - log_p)


def js(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    middle = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0, dtype=log_q.dtype))
    return (_weighted(log_p.exp(), log_p - middle) + _weighted(log_q.exp(), log_q - middle)) / 2


def tvd(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def overlap(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """sum min(p, q): the chance that a token drawn from q is accepted (Leviathan et al. 2022, theorem 3.5)."""
    return torch.minimum(log_p, log_q).exp().sum(-1)


def _weighted(weight: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
    """sum weight * log_ratio, where a weight of 0 makes 0 whatever the ratio (0 log 0 = 0), gradients included."""
    return (weight * torch.where(weight > 0, log_ratio, 0.0)).sum(-1)


DISTANCES: dict[str, Distance] = {"kl": kl, "reverse-kl": reverse_kl, "js": js, "tvd": tvd}
LOSSES = ("ce", *DISTANCES, "tvd++")


@dataclass(frozen=True)
class Mix:
    """A weighted sum of losses, written `ce`, `0.5*ce + 0.5*kl`, `tvd@0.6`, ... ; weights are taken as they are."""

    weights: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Raises EdgespecError naming the part that is no weighted loss."""
        weights: dict[str, float] = {}
        for part in text.replace("tvd++", "tvd_pp").split("+"):
            factor, _, name = part.strip().rpartition("*")
            name, _, degree = name.strip().replace("tvd_pp", "tvd++").partition("@")
            weight, temperature = _number(factor), _number(degree)
            if name not in LOSSES or not 0 < weight < float("inf") or not 0 < temperature <= 1:
                raise EdgespecError(
                    f"'{part.strip().replace('tvd_pp', 'tvd++')}' in the loss '{text}' is no loss; choose "
                    f"{', '.join(LOSSES)}, with weights above 0 as in '0.5*ce + 0.5*kl', and at a temperature up to 1 "
                    "as in 'tvd@0.6'"
                )
            if name == "ce" and degree:
                raise EdgespecError(
                    f"ce in the loss '{text}' looks at no distribution and has no temperature; leave out @"
                )
            name = _at(name, temperature)
            weights[name] = weights.get(name, 0.0) + weight
        return cls(tuple(weights.items()))

    @property
    def needs_target(self) -> bool:
        """Whether the target's distribution is looked at."""
        return any(name != "ce" for name, _ in self.weights)

    @property
    def temperatures(self) -> list[float]:
        """At which distributions are compared; 1 is among them."""
        return sorted({1.0, *(_number(name.partition("@")[2]) for name, _ in self.weights)}, reverse=True)

    @property
    def figures(self) -> list[str]:
        """What `mixed_loss` tells by name where the target is known."""
        return [name for name, _ in self.weights] + [_at("overlap", degree) for degree in self.temperatures]

    def __str__(self) -> str:
        return " + ".join(name if weight == 1 else f"{weight:g}*{name}" for name, weight in self.weights)


def _number(text: str) -> float:
    """1 for no text, NaN for none that is a number."""
    try:
        return float(text) if text else 1.0
    except ValueError:
        return float("nan")


def _at(name: str, temperature: float) -> str:
    return name if temperature == 1 else f"{name}@{temperature:g}"


def mixed_loss(
    rows: torch.Tensor,
    tokens: torch.Tensor,
    target: TargetView | AskedTarget | None,
    mix: Mix,
    *,
    head: Head | None = None,
    chunk: int = 1024,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(mean of `mix` over n positions, {name: mean}): each loss of the mix by name, and `overlap` where the target is
    known (an upper bound by at most min(r, q(rest)) over top-k), at the mix's temperatures too (`overlap@0.6`).

    rows: logits [n, vocabulary], or hidden states [n, width] for `head`; positions that do not count are left out by
    the caller. tokens: i64 [n], what the target wrote. Works on `chunk` positions at a time and computes their
    probabilities again going back, so that of [n, vocabulary] never more than one chunk's float32 copies exist
    (several: about 24 bytes an entry). n = 0 gives a loss of 0. Raises EdgespecError when the mix needs a target and
    none is given.
    """
    if target is None and mix.needs_target:
        raise EdgespecError(f"the loss '{mix}' compares with the target's distribution, and none was given")
    count = len(rows)
    if count == 0:
        return rows.sum() * 0.0, {}
    sums: dict[str, torch.Tensor] = {}
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        view = None if target is None else target.rows(start, stop)
        arguments = (rows[start:stop], tokens[start:stop], view, mix, head)
        several = count > chunk and torch.is_grad_enabled()
        parts = checkpoint(_sums, *arguments, use_reentrant=False) if several else _sums(*arguments)
        for name, value in parts.items():
            sums[name] = sums[name] + value if name in sums else value
    means: dict[str, Any] = {name: value / count for name, value in sums.items()}
    for degree in mix.temperatures:
        rewarded, outcomes = (means.pop(_at(name, degree), None) for name in ("rewarded", "outcomes"))
        if rewarded is not None:
            share = rewarded / outcomes
            deviation = (share * (1 - share)).sqrt()  # of a reward that is 0 or 1
            means[_at("tvd++", degree)] = means[_at("tvd++", degree)] / deviation.clamp_min(1e-8)
    loss = sum(weight * means[name] for name, weight in mix.weights)
    assert isinstance(loss, torch.Tensor)
    return loss, {name: value.detach() for name, value in means.items()}


def _sums(
    rows: torch.Tensor, tokens: torch.Tensor, target: TargetView | AskedTarget | None, mix: Mix, head: Head | None
) -> dict[str, torch.Tensor]:
    """Over one chunk's positions: each loss's sum, `overlap`, and of tvd++ how many outcomes were rewarded, of how
    many."""
    logits = rows if head is None else head(rows)
    log_q = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
    found: dict[str, torch.Tensor] = {}
    names = [name for name, _ in mix.weights]
    if "ce" in names:
        found["ce"] = -log_q.gather(-1, tokens[:, None]).sum()
    if target is None:
        return found
    seen = target.seen()
    for degree in mix.temperatures:
        log_p_at, log_q_at = outcomes(log_q if degree == 1 else (log_q / degree).log_softmax(-1), seen.at(degree))
        with torch.no_grad():
            found[_at("overlap", degree)] = overlap(log_p_at, log_q_at).sum()
        for loss, distance in DISTANCES.items():
            if _at(loss, degree) in names:
                found[_at(loss, degree)] = distance(log_p_at, log_q_at).sum()
        if _at("tvd++", degree) in names:
            found[_at("tvd++", degree)] = tvd(log_p_at, log_q_at).sum()
            with torch.no_grad():
                rewarded = log_p_at > log_q_at
                found[_at("rewarded", degree)] = rewarded.sum().to(log_q.dtype)
                found[_at("outcomes", degree)] = torch.tensor(
                    float(rewarded.numel()), dtype=log_q.dtype, device=log_q.device
                )
    return found
