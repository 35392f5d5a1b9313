"""Which machine this is: what a figure must stand beside, and what a tuned profile is valid for."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from typing import Any

import psutil

from .pair import installed_versions


@cache
def describe() -> dict[str, Any]:
    """Processor, cores, memory in bytes, operating system and Python; what cannot be told is None."""
    import openvino

    core = openvino.Core()
    capabilities = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return {
        "cpu": str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip(),
        "cpu_capabilities": capabilities,
        "cpu_default_precision": core.get_property("CPU", "INFERENCE_PRECISION_HINT").to_string(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def on_battery() -> bool | None:
    """Whether the machine runs on battery now; None when it has none or does not tell."""
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    return None if battery is None or battery.power_plugged is None else not battery.power_plugged


def fingerprint() -> str:
    """A short hash of what a tuned profile depends on: processor, cores, operating system, OpenVINO's version."""
    machine = describe()
    facts = [machine["cpu"], machine["physical_cores"], machine["logical_cores"], platform.system()]
    return hashlib.sha256(json.dumps([facts, installed_versions()["openvino"]]).encode()).hexdigest()[:16]
