"""edgespec.tuning: the fastest way to run a pair on this machine's device, as a profile in the pair.

search.py       what is tried, in which order, and who wins          settings.py, modes.py: what there is to try
racing.py       stages of a race                                     race.py: who is out, and how surely
choosing.py     settings, with their scores                          quality.py, scoring.py: do they keep the words?
confirming.py   the final, whose figures the profile states          measuring.py: engines, blocks, heats, the clock
world.py        what all of it needs from outside; a test hands in a scripted one
"""

from __future__ import annotations

from .planning import Plan, plan
from .quality import Bounds
from .search import Options, Search, Tuned

__all__ = ["Bounds", "Options", "Plan", "Search", "Tuned", "plan"]
