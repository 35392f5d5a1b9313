"""Many models timed against one another in a memory that holds only some: in heats, with one model in every heat.

Models of one heat are open at once and take turns, so a slow moment of the machine falls on all of them. Between heats
the machine may have changed; the model that runs in each tells by how much, and its ratio chains the heats.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, median
from typing import TypeVar

from edgespec.errors import EdgespecError

Name = TypeVar("Name", bound=Hashable)


def plan_heats(needs: Mapping[Name, int], reference: Name, free_bytes: int) -> list[tuple[Name, ...]]:
    """Names of each heat, the reference first: the largest that is left, then whatever else fits beside it.

    needs: bytes of each when it is open. Raises EdgespecError with figures when one does not fit beside the reference.
    """
    waiting = sorted((name for name in needs if name != reference), key=lambda name: -needs[name])
    most = [reference, *waiting[:1]]
    need = sum(needs[name] for name in most)
    if need > free_bytes:
        raise EdgespecError(
            f"timing {' beside '.join(_told(name) for name in reversed(most))} needs about {need / 1e9:.1f} GB of "
            f"memory and {free_bytes / 1e9:.1f} GB are free; close other programs, or sweep on a machine with more"
        )
    heats: list[tuple[Name, ...]] = []
    while waiting:
        heat, left = [reference], free_bytes - needs[reference]
        for name in list(waiting):
            if needs[name] <= left:
                heat.append(name)
                left -= needs[name]
                waiting.remove(name)
        heats.append(tuple(heat))
    return heats or [(reference,)]


def chained(heats: Sequence[Mapping[Name, Mapping[int, float]]], reference: Name) -> dict[Name, dict[int, float]]:
    """Times of all heats as if they were of one: each heat's are scaled so that its reference takes what it takes in
    the median heat, in the geometric mean over lengths."""
    usual = {n: median(heat[reference][n] for heat in heats) for n in heats[0][reference]}
    found: dict[Name, dict[int, float]] = {}
    for heat in heats:
        scale = math.exp(fmean(math.log(usual[n] / heat[reference][n]) for n in usual))
        found |= {name: {n: t * scale for n, t in times.items()} for name, times in heat.items()}
    return {**found, reference: usual}


def _told(name: object) -> str:
    return " ".join(map(str, name)) if isinstance(name, tuple) else str(name)
