"""The weight formats, and what each device wants of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgespec.errors import EdgespecError


@dataclass(frozen=True)
class Format:
    """A weight format. mode: NNCF's CompressWeightsMode, None to keep the weights as they are.

    Embedding and head stay in 8 bits in a 4-bit format (NNCF's backup).
    """

    mode: str | None
    bits: int = 16

    @property
    def grouped(self) -> bool:
        return self.bits == 4

    @property
    def symmetric(self) -> bool:
        return self.mode is None or self.mode.endswith("_sym")


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "int4": Format("int4_sym", 4),  # the faster of the two, in a plain pass and in verification
        "int4_sym": Format("int4_sym", 4),
        "int4_asym": Format("int4_asym", 4),  # a little more accurate, and slower to verify with
        "int8": Format("int8_asym", 8),
        "int8_asym": Format("int8_asym", 8),
        "int8_sym": Format("int8_sym", 8),
        "none": Format(None),
        "keep": Format(None),
    }
)


@dataclass(frozen=True)
class Preset:
    """What a device wants. backup: format of embedding and head in an int4 model, NNCF's BackupMode.

    strict: formats must be symmetric 4-bit and groups must be 128 or a whole row, or the device's compiler fails.
    """

    target: str
    draft: str
    backup: str
    strict: bool = False


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "cpu": Preset("int4", "int8", "int8_asym"),
        "gpu": Preset("int4", "int8", "int8_asym"),
        "npu": Preset("int4_sym", "int4_sym", "int8_sym", strict=True),
    }
)
"""NPU: OpenVINO's guide "NPU with OpenVINO GenAI" wants symmetric weights, ratio 1.0, and groups of 128 up to about 5 B
weights, whole rows above; asymmetric groups fail deep in the compiler (openvino issue 34450). A draft is int8
elsewhere: published drafts are, and models below 1 B lose more to 4 bits."""

GROUP_SIZE = 128
WHOLE_ROW = -1
NPU_WHOLE_ROW_ABOVE = 5_000_000_000


def resolve(
    device: str, target: str | None, draft: str | None, group_size: int | None
) -> tuple[Preset, Format, Format]:
    """The preset and the two formats of a request; None means the preset's. Raises EdgespecError naming the choices."""
    if device not in PRESETS:
        raise EdgespecError(f"there is no preset for '{device}'; choose {', '.join(PRESETS)}")
    preset = PRESETS[device]
    formats = []
    for role, name in (("target", target or preset.target), ("draft", draft or preset.draft)):
        if name not in FORMATS:
            raise EdgespecError(f"'{name}' is not a weight format for the {role}; choose {', '.join(FORMATS)}")
        chosen = FORMATS[name]
        if preset.strict and chosen.mode not in (None, "int4_sym"):
            raise EdgespecError(f"'{name}' for the {role} does not run on an NPU; choose int4_sym, or none to keep it")
        formats.append(chosen)
    if group_size is not None:
        _check_group_size(group_size, preset, formats)
    return preset, formats[0], formats[1]


def _check_group_size(group_size: int, preset: Preset, formats: list[Format]) -> None:
    if not any(chosen.grouped for chosen in formats):
        raise EdgespecError("a group size belongs to int4, and int8 has one scale a row; leave it out or choose int4")
    if preset.strict and group_size not in (GROUP_SIZE, WHOLE_ROW):
        raise EdgespecError(f"an NPU runs groups of 128 or whole rows (-1), not {group_size}; choose one of these")
    if group_size != WHOLE_ROW and (group_size < 16 or group_size & (group_size - 1)):
        raise EdgespecError(f"there are no groups of {group_size}; choose a power of two from 16, or -1 (a whole row)")
