"""A Hugging Face checkpoint, with or without a draft, to an OpenVINO pair directory.

checkpoint.py and weights.py say what a checkpoint is and every reason not to export it, code.py whether its own Python
may run, hub.py brings it here, dtypes.py picks the way that needs the least memory, loading.py loads, convert.py makes
one IR and checks it, recast.py changes its type, parity.py and verify.py hold it against the original, eagle.py knows
EAGLE-3 heads, assemble.py makes the pair; adopt.py makes one of models that need no conversion. Nothing heavy loads
before every early refusal had its chance.
"""

from __future__ import annotations

from edgespec.telemetry import stop_upstream_reports

from .adopt import adopt_pair
from .assemble import export_pair
from .verify import hold

__all__ = ["adopt_pair", "export_pair", "hold"]

stop_upstream_reports()
