"""A pair of IRs to a smaller pair: int8 or int4 weights through NNCF, one format for the target and one for the draft.

formats.py names the formats and what each device wants, compress.py compresses one IR, assemble.py makes the pair.
"""

from __future__ import annotations

from edgespec.telemetry import stop_upstream_reports

from .assemble import SizeRow, quantize_pair
from .formats import FORMATS, PRESETS

__all__ = ["FORMATS", "PRESETS", "SizeRow", "quantize_pair"]

stop_upstream_reports()
