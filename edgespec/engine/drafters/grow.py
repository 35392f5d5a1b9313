"""A tree grown best first: the node most likely to be accepted next, as often as the budget allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush

from ..proposal import ROOT

Context = tuple[int, ...]
Options = Iterable[tuple[int, float]]
"""(token, chance that it is the sibling accepted), in the order in which siblings are to stand."""


def grow(
    budget: int, root: Context, options: Callable[[int, Context], Options], *, depth: int = 16, least: float = 0.0
) -> tuple[list[int], list[int]]:
    """(tokens, parents) of up to `budget` nodes below the context `root`, parents first.

    options(node, context) lists what may stand behind `node` (ROOT for the first); it is asked once a node. Chances
    fall from sibling to sibling (one that rises counts as the one before). A node's worth is the product of the chances
    down to it; `least` is the worth below which nothing is added. The first n nodes are what a budget of n would give.

    Drawn siblings keep their distribution here provided their chances do not depend on which tokens were drawn: whether
    one is taken is then settled before its value is looked at.
    """
    tokens: list[int] = []
    parents: list[int] = []
    waiting: list[tuple[float, int, int, int, Context, int]] = []  # -worth, order, parent, token, context, depth
    entered = 0

    def enter(parent: int, context: Context, worth: float, level: int) -> None:
        nonlocal entered
        before = 1.0
        for token, chance in options(parent, context):
            before = min(before, chance)
            heappush(waiting, (-worth * before, entered, parent, token, context, level))
            entered += 1

    enter(ROOT, root, 1.0, 1)
    while waiting and len(tokens) < budget:
        lost, _, parent, token, context, level = heappop(waiting)
        if -lost <= least:
            break
        tokens.append(token)
        parents.append(parent)
        if level < depth and len(tokens) < budget:
            enter(len(tokens) - 1, (*context, token), -lost, level + 1)
    return tokens, parents
