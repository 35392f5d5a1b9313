"""edgespec compare: bench results held against the first of them.

readback.py      a result folder or a report, read again
differences.py   what makes two runs incomparable, or may explain a difference
changes.py       what differs, with intervals: pure functions over two runs
gates.py         conditions that fail a CI job
telling.py       the same as tables, sentences, JSON and Markdown
"""

from __future__ import annotations

from . import gates, telling
from .changes import compare
from .readback import read_run

__all__ = ["compare", "gates", "read_run", "telling"]
