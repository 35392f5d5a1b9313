"""The OpenVINO devices of this machine, and what each can run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psutil

from .errors import EdgespecError

MODES = ("plain", "draft", "lookup", "eagle3", "native")
"""What a device may run: four modes of openvino-genai, and the native engine."""


@dataclass(frozen=True)
class Device:
    """One device. memory_bytes: what it can hold, None when it does not tell. modes: mode -> None when it runs there,
    else the reason why it does not."""

    name: str
    full_name: str
    kind: str
    memory_bytes: int | None
    precisions: list[str]
    modes: dict[str, str | None]


def list_devices() -> list[Device]:
    """Every device OpenVINO finds here. A driver that answers no property yields a device whose modes say so."""
    import openvino

    core = openvino.Core()
    return [_inspect(core, name) for name in _names(core)]


def _names(core: Any) -> list[str]:
    names = list(core.available_devices)
    if os.environ.get("NPUW_DEVICES") and not any(name.startswith("NPU") for name in names):
        names.append("NPU")  # the NPU pipeline emulated on the devices named there
    return names


def _inspect(core: Any, name: str) -> Device:
    def ask(key: str) -> Any:
        try:
            return core.get_property(name, key)
        except Exception:
            return None  # a property this driver does not know

    if name.startswith("NPU") and name not in core.available_devices:
        full_name, kind = f"NPU pipeline emulated on {os.environ['NPUW_DEVICES']}", "emulated"
        precisions: list[str] = []
    else:
        full_name = str(ask("FULL_DEVICE_NAME") or "unknown").strip()
        kind = {"Type.INTEGRATED": "integrated", "Type.DISCRETE": "discrete"}.get(str(ask("DEVICE_TYPE")), "unknown")
        precisions = [item for item in ask("OPTIMIZATION_CAPABILITIES") or [] if item not in ("EXPORT_IMPORT", "BIN")]
    return Device(name, full_name, kind, _memory(name, kind, ask), sorted(precisions), _modes(name, full_name))


def _memory(name: str, kind: str, ask: Any) -> int | None:
    if name == "CPU" or kind == "emulated":
        return psutil.virtual_memory().total
    for key in ("GPU_DEVICE_TOTAL_MEM_SIZE", "NPU_DEVICE_TOTAL_MEM_SIZE"):
        if name.startswith(key[:3]) and (size := ask(key)) is not None:
            return int(size)
    return None


def _modes(name: str, full_name: str) -> dict[str, str | None]:
    if full_name == "unknown":
        return dict.fromkeys(MODES, "the driver does not answer; update it")
    if name.startswith("NPU"):
        return {
            "plain": None,
            "draft": None,
            "lookup": "openvino-genai ignores prompt lookup on an NPU; use a draft, or CPU or GPU",
            "eagle3": "openvino-genai runs an EAGLE-3 head there only in a tree of fixed size, which edgespec does not "
            "drive; use CPU or GPU",
            "native": "an NPU runs models of fixed shape only, which the native engine does not drive",
        }
    return dict.fromkeys(MODES)


def require_device(name: str) -> str:
    """`name` as OpenVINO spells it; AUTO stays. Raises EdgespecError listing what this machine has."""
    import openvino

    wanted = name.upper()
    present = _names(openvino.Core())
    matches = [device for device in present if device == wanted or device.partition(".")[0] == wanted]
    if wanted == "AUTO" or matches:
        return wanted
    raise EdgespecError(
        f"there is no device '{name}' on this machine; OpenVINO finds {', '.join(present)} (see: edgespec devices)"
    )


def default_precision(name: str) -> str | None:
    """The precision a device computes in unless told otherwise, such as f32 or bf16; None when it does not tell."""
    import openvino

    try:
        return str(openvino.Core().get_property(name, "INFERENCE_PRECISION_HINT").to_string())
    except (RuntimeError, AttributeError):  # AUTO, an emulated device, or a driver without that property
        return None


def require_mode(device: str, mode: str) -> None:
    """Refuse a mode that does not exist or that the device cannot run, with the reason."""
    if mode not in MODES:
        raise EdgespecError(f"there is no mode '{mode}'; choose {', '.join(MODES)}")
    reason = _modes(device, device).get(mode)
    if reason:
        raise EdgespecError(f"mode '{mode}' cannot run on {device}: {reason}")
