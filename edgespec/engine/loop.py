"""The speculative loop: propose, verify, keep what the target accepts. Any model with a cache, any drafter.

key: pending, the token that was emitted last and that the target has not seen yet; it is the root of the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from .accept import accept
from .drafters.making import Request
from .model import ModelSequence
from .proposal import NOTHING, Drafter, Proposal, Verified
from .step import Step


def speculate(
    sequence: ModelSequence,
    drafter: Drafter,
    request: Request,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    gamma: int,
) -> Iterator[Step]:
    """Decode `max_new_tokens` tokens behind `prompt_ids`, whatever they are: where the text ends is the caller's to
    see. The first step is the prompt's pass, every other one verifies a proposal of at most `gamma` tokens.

    sequence: the target's; what its cache holds of the prompt is kept if the request says so. drafter: the request's.
    """
    text = list(prompt_ids)
    drafter.begin(prompt_ids)
    if request.reuse_prefix:
        sequence.reuse(prompt_ids)
    else:
        sequence.reset()
    clock = time.perf_counter()
    logits = sequence.feed(text[len(sequence.tokens) :])
    _, pending = accept(NOTHING, logits, request.processor, text, request.rng)
    verify_s = time.perf_counter() - clock
    drafter.observe(Verified(NOTHING, (), pending, logits))
    text.append(pending)
    yield Step((pending,), 0, 0, 0.0, verify_s)

    while left := max_new_tokens - (len(text) - len(prompt_ids)):
        clock = time.perf_counter()
        proposal = drafter.propose(min(gamma, left - 1))
        draft_s, clock = _lap(clock)
        ids, parents = _nodes(pending, proposal)
        logits = sequence.grow(ids, parents)[: 1 + len(proposal)]
        path, pending = accept(proposal, logits, request.processor, text, request.rng)
        sequence.keep((0, *(node + 1 for node in path)))
        verify_s, clock = _lap(clock)
        verified = Verified(proposal, path, pending, logits)
        drafter.observe(verified)
        text += verified.emitted
        draft_s += time.perf_counter() - clock
        yield Step(verified.emitted, len(proposal), len(path), draft_s, verify_s)


def _nodes(pending: int, proposal: Proposal) -> tuple[list[int], list[int] | None]:
    """Ids and parents for ModelSequence.grow: `pending` as the root, what is proposed, and padding at the end."""
    ids = [pending, *proposal.tokens.tolist(), *[pending] * proposal.padding]
    if proposal.is_chain:
        return ids, None
    return ids, [-1, *(parent + 1 for parent in proposal.parents.tolist()), *[0] * proposal.padding]


def _lap(clock: float) -> tuple[float, float]:
    now = time.perf_counter()
    return now - clock, now
