"""The weight formats, and what each device wants of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GROUP_SIZE = 128
WHOLE_ROW = -1
NPU_WHOLE_ROW_ABOVE = 5_000_000_000


@dataclass(frozen=True)
class Format:
    """A weight format. mode: NNCF's CompressWeightsMode, None to keep the weights as they are. precision: what
    edgespec.ir calls an IR in it.

    fixed_group: the only group size there is. corrected: whether NNCF can apply AWQ, scale estimation, GPTQ and LoRA
    correction to it. Embedding and head stay in 8 bits in a 4-bit format (NNCF's backup), unless all layers are asked.
    """

    mode: str | None
    precision: str = ""
    bits: int = 16
    default_group: int = WHOLE_ROW
    fixed_group: int | None = None
    corrected: bool = False

    @property
    def grouped(self) -> bool:
        """Whether it takes options at all: groups, a ratio, a backup. NNCF's int8 takes none."""
        return self.mode is not None and not self.mode.startswith("int8")


_INT4_SYM = Format("int4_sym", "int4_sym", 4, GROUP_SIZE, corrected=True)
_INT4_ASYM = Format("int4_asym", "int4_asym", 4, GROUP_SIZE, corrected=True)
_INT8_ASYM = Format("int8_asym", "int8_asym", 8)

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "int4": _INT4_SYM,  # the faster of the two, in a plain pass and in verification
        "int4_sym": _INT4_SYM,
        "int4_asym": _INT4_ASYM,  # a little more accurate, and slower to verify with
        "int8": _INT8_ASYM,
        "int8_asym": _INT8_ASYM,
        "int8_sym": Format("int8_sym", "int8_sym", 8),
        "nf4": Format("nf4", "nf4", 4, GROUP_SIZE, corrected=True),
        "cb4": Format("cb4", "cb4", 4, WHOLE_ROW, corrected=True),
        "fp4": Format("fp4", "fp4", 4, GROUP_SIZE),
        "mxfp4": Format("mxfp4", "mxfp4", 4, 32, fixed_group=32),
        "fp8": Format("fp8_e4m3", "fp8", 8, GROUP_SIZE),
        "mxfp8": Format("mxfp8_e4m3", "mxfp8", 8, 32, fixed_group=32),
        "none": Format(None),
        "keep": Format(None),
    }
)
"""int2, int3, nvfp4 and codebooks of one's own exist in NNCF too; they are left out, for want of a device that is fast
with them."""


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
