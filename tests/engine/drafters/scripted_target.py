"""A greedy target that says a known answer, to run a drafter against without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgespec.engine.accept import accept
from edgespec.engine.processors import Processor
from edgespec.engine.proposal import NOTHING, ROOT, Drafter, Proposal, Verified
from edgespec.sampling import GREEDY


def rows(proposal: Proposal, answer: Sequence[int], done: int, vocabulary: int) -> np.ndarray:
    """Logits f32 [n+1, vocabulary]: the answer's next token behind every node that agrees with it, zeros elsewhere."""
    logits = np.zeros((len(proposal) + 1, vocabulary), np.float32)
    at: dict[int, int] = {ROOT: done}  # by node: tokens of the answer said so far
    for node, parent in enumerate([None, *proposal.parents.tolist()], start=-1):
        agreed = at.get(parent) if parent is not None else None
        if agreed is not None and agreed < len(answer) and proposal.tokens[node] == answer[agreed]:
            at[node] = agreed + 1
        if node in at and at[node] < len(answer):
            logits[node + 1, answer[at[node]]] = 9.0
    return logits


def decode(
    drafter: Drafter, prompt: Sequence[int], answer: Sequence[int], budget: int, vocabulary: int = 1000
) -> list[Verified]:
    """Every step after the prompt's; checks that the tokens emitted are the answer's (the last step may run beyond)."""
    processor, rng = Processor(GREEDY, vocabulary), np.random.default_rng(0)
    drafter.begin(prompt)
    said = [answer[0]]
    drafter.observe(Verified(NOTHING, (), answer[0], rows(NOTHING, answer, 0, vocabulary)))
    steps: list[Verified] = []
    while len(said) < len(answer):
        proposal = drafter.propose(budget)
        assert len(proposal) <= budget
        assert all(ROOT <= parent < node for node, parent in enumerate(proposal.parents))
        logits = rows(proposal, answer, len(said), vocabulary)
        path, bonus = accept(proposal, logits, processor, [*prompt, *said], rng)
        steps.append(Verified(proposal, path, bonus, logits))
        said.extend(steps[-1].emitted)
        drafter.observe(steps[-1])
    assert said[: len(answer)] == list(answer)
    return steps


def proposed(steps: Sequence[Verified]) -> list[list[int]]:
    return [step.proposal.tokens.tolist() for step in steps]
