"""A Hugging Face checkpoint, with or without a draft, to an OpenVINO pair directory.

checkpoint.py says where a checkpoint is and every reason not to export it, hub.py brings it here, convert.py makes one
IR and checks it, assemble.py makes the pair. Nothing heavy loads before every early refusal had its chance.
"""

from __future__ import annotations

from edgespec.telemetry import stop_upstream_reports

from .assemble import export_pair

__all__ = ["export_pair"]

stop_upstream_reports()
