"""Chains against trees: what a tree of guesses would gain, by how often the next best guess is right.

A twin's second guesses are random, so what trees would be accepted is a question to the model that is not there yet:
rho is the chance that a draft's next best token is right where those before it were not. Times are measured: passes of
the target over as many tokens as the tree has nodes, and passes of the draft over a level of it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from edgespec.engine.costs import Costs

from .step_model import StepModel

NODES = (2, 3, 4, 6, 8, 11, 15)
DEPTH = 8
RHOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_WIDTH = 4


@dataclass(frozen=True)
class Tree:
    """The best of its size: nodes, its depth, tokens a step, and the speed-up it would give."""

    nodes: int
    depth: int
    tau: float
    speedup: float


def grown(alpha: float, rho: float, nodes: int, depth: int = DEPTH) -> list[tuple[float, int]]:
    """Chance to be accepted and level of each node of the tree of `nodes` nodes that is accepted furthest, likeliest
    first: a node's children are right with alpha, (1 - alpha) rho, (1 - alpha)(1 - rho) rho, ... where it is."""
    children = [alpha] + [(1 - alpha) * (1 - rho) ** rank * rho for rank in range(_WIDTH - 1)]
    waiting = [(-chance, 1) for chance in children]
    heapq.heapify(waiting)
    taken: list[tuple[float, int]] = []
    while waiting and len(taken) < nodes:
        chance, level = heapq.heappop(waiting)
        taken.append((-chance, level))
        if level < depth:
            for share in children:
                heapq.heappush(waiting, (chance * share, level + 1))
    return taken


def best_tree(model: StepModel, alpha: float, rho: float) -> Tree:
    """The fastest tree of NODES sizes and any depth up to DEPTH."""
    best: Tree | None = None
    for nodes in NODES:
        for depth in range(1, min(DEPTH, nodes) + 1):
            taken = grown(alpha, rho, nodes, depth)
            deepest = max(level for _, level in taken)
            tau = 1 + sum(chance for chance, _ in taken)
            drafting = model.drafting(1) + (model.drafting(deepest) - model.drafting(1)) * max(1.0, model.wide)
            through = sum(chance for chance, level in taken if level == deepest)  # then it reads one token more
            drafting += through * (model.drafting(deepest + 1) - model.drafting(deepest))
            seconds = Costs(model.target).target(len(taken) + 1) + drafting + model.overhead
            found = Tree(len(taken), deepest, tau, tau * model.seconds(0) / seconds)
            if best is None or found.speedup > best.speedup:
                best = found
    assert best is not None
    return best


def rho_needed(model: StepModel, alpha: float) -> float | None:
    """The rho from which on the best tree is faster than the best chain, in hundredths; None when none is."""
    chain = model.best(alpha)
    for hundredths in range(1, 100):
        if best_tree(model, alpha, hundredths / 100).speedup > chain * 1.001:
            return hundredths / 100
    return None
