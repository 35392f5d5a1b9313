"""No reports to anyone: edgespec's users agreed to none.

The converters underneath (openvino's, NNCF) send usage events over the network through openvino-telemetry unless told
otherwise, on Linux from a process forked for each event, which offline only costs time.
"""

from __future__ import annotations


def stop_upstream_reports() -> None:
    """Make openvino-telemetry drop its events in this process. Its own files and settings are not touched."""
    try:
        from openvino_telemetry.backend.backend_ga4 import GA4Backend
    except ImportError:  # not installed, or another release that has no such backend
        return
    GA4Backend.send = lambda self, message: None
