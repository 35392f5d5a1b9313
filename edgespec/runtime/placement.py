"""Where models run: what a device asked for means on this machine, and what there is when it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..devices import require_device
from ..errors import EdgespecError
from ..pair import Pair
from ..profile import Profile, profile_for
from .modes import Way
from .npu import is_npu

LAST_RESORT = "CPU"
FAMILIES = ("CPU", "GPU", "NPU")
"""What a device may be called that comes and goes with its driver; another name is a slip of the keyboard."""


@dataclass(frozen=True)
class Placement:
    """Devices as OpenVINO spells them, why these, and the tuned profile that holds there (None, with the reason).

    draft_device: None for the target's.
    """

    device: str
    draft_device: str | None
    why: str
    profile: Profile | None
    profile_reason: str

    @property
    def npu(self) -> bool:
        return is_npu(self.device) or is_npu(self.draft_device)

    def settings_for(self, way: Way) -> Mapping[str, Any]:
        """The tuned profile's: plain decoding on the engine it was measured on has its own."""
        if self.profile is None:
            return {}
        plain = self.profile.plain
        return plain.settings if not way.speculative and way.engine == plain.engine else self.profile.settings


def place(pair: Pair, device: str, draft_device: str | None, *, auto: bool) -> Placement:
    """Settle where `pair` runs. auto: a GPU or NPU that is absent is replaced by the CPU, with the reason; otherwise,
    and for a name that is no device's, EdgespecError."""
    where, why = _settle(pair, device, auto)
    draft_where = None
    if draft_device is not None:
        try:
            draft_where = require_device(draft_device)
        except EdgespecError as error:
            if not auto or not draft_device.upper().startswith(FAMILIES):
                raise
            why += f"; the draft runs there too, not on '{draft_device}': {error}"
    profile, reason = profile_for(pair, where, draft_where)
    if profile is not None and draft_where is None and profile.draft_device not in (None, where):
        draft_where = profile.draft_device
    return Placement(where, draft_where, why, profile, reason)


def is_there(device: str) -> bool:
    """Whether a device that was there still is: a GPU in a box may be unplugged, a driver may be replaced."""
    try:
        require_device(device)
    except EdgespecError:
        return False
    return True


def _settle(pair: Pair, device: str, auto: bool) -> tuple[str, str]:
    if device.upper() == "AUTO":
        return _choose(pair)
    try:
        return require_device(device), "asked for"
    except EdgespecError as error:
        if not auto or not device.upper().startswith(FAMILIES):
            raise
        return LAST_RESORT, f"the device asked for is not there ({error}), so the CPU is used"


def _choose(pair: Pair) -> tuple[str, str]:
    """For AUTO: where a profile of this machine is fastest; else a GPU, where there is one; else the CPU. Never an NPU
    that nobody measured: for decoding it is slower than the CPU on most machines."""
    import openvino

    present = list(openvino.Core().available_devices)
    tuned = [(profile, name) for name in present if (profile := _profile_on(pair, name)) is not None]
    if tuned:
        best, name = max(tuned, key=lambda found: found[0].tokens_per_second)
        others = " and the fastest of those tuned" if len(tuned) > 1 else ""
        return name, f"AUTO: tuned on this machine{others}, {best.tokens_per_second:.0f} tokens/s"
    gpu = next((name for name in present if name.startswith("GPU")), None)
    if gpu is not None:
        return gpu, "AUTO: this machine has a GPU, and no profile says that something else is faster"
    return LAST_RESORT, "AUTO: no GPU was found, and no profile says that something else is faster"


def _profile_on(pair: Pair, device: str) -> Profile | None:
    return profile_for(pair, device)[0]
