"""Which proposed tokens stay: exact for chains, k candidates and trees, greedy or drawn.

The emitted tokens are distributed as if the target had drawn each in turn: at every node `selection` accepts a child or
leaves the distribution that the target's own token is drawn from (selection.py has the mathematics and its sources).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .draws import draw
from .processors import Processor
from .proposal import ROOT, Proposal
from .selection import Rule, selection


def accept(
    proposal: Proposal,
    logits: np.ndarray,
    processor: Processor,
    history: Sequence[int],
    rng: np.random.Generator,
    *,
    rule: Rule = "rounds",
) -> tuple[tuple[int, ...], int]:
    """(path, bonus): indices of the accepted nodes from the root down, and the token the target adds itself.

    logits: f32 [n+1, vocabulary], row 0 behind the last emitted token, row i+1 behind node i. Only rows on the path are
    turned into distributions. history: ids up to the last emitted one, the prompt's first; not changed.
    rng: not touched when greedy, and must not be the one that the proposal was drawn with in the same state.
    rule: for siblings drawn with replacement.
    """
    text = list(history) if processor.reads_history else []
    if processor.greedy:
        if proposal.is_chain:
            return _greedy_chain(proposal.tokens.tolist(), logits, processor, text)
        return _greedy(proposal, logits, processor, text)
    children = _children(proposal)
    path: list[int] = []
    parent = ROOT
    while True:
        p = processor.distribution(logits[parent + 1], text)
        below = children.get(parent, [])
        if not below:
            return tuple(path), draw(p, rng)
        state = selection(p, proposal, parent, len(below), rule)
        for child in below:
            token = int(proposal.tokens[child])
            if rng.random() < state.chance(token):
                break
            state = state.rejected(token)
        else:
            return tuple(path), draw(state.rest(), rng)
        path.append(child)
        text.append(token)
        parent = child


def _greedy_chain(
    tokens: list[int], logits: np.ndarray, processor: Processor, text: list[int]
) -> tuple[tuple[int, ...], int]:
    """`_greedy` for what is proposed most, without a tree's bookkeeping: it runs between every two passes."""
    for node, token in enumerate(tokens):
        likeliest = processor.argmax(logits[node], text)
        if likeliest != token:
            return tuple(range(node)), likeliest
        text.append(token)
    return tuple(range(len(tokens))), processor.argmax(logits[len(tokens)], text)


def _greedy(
    proposal: Proposal, logits: np.ndarray, processor: Processor, text: list[int]
) -> tuple[tuple[int, ...], int]:
    """Follow the likeliest token as far as some branch has it. Equal siblings are followed together, since either may
    have the longer branch."""
    children, level = _children(proposal), [ROOT]
    while True:
        token = processor.argmax(logits[level[0] + 1], text)
        deeper = [child for node in level for child in children.get(node, []) if proposal.tokens[child] == token]
        if not deeper:
            return _path(proposal, level[0]), token
        text.append(token)
        level = deeper


def _children(proposal: Proposal) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(proposal.parents.tolist()):
        children.setdefault(parent, []).append(node)
    return children


def _path(proposal: Proposal, node: int) -> tuple[int, ...]:
    path: list[int] = []
    while node != ROOT:
        path.append(node)
        node = int(proposal.parents[node])
    return tuple(reversed(path))
