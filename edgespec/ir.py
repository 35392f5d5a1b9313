"""An OpenVINO IR on disk, read without loading it: is it complete, how are its weights stored, how many are there."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .errors import EdgespecError

IR_FILES = ("openvino_model.xml", "openvino_model.bin")
"""A language model's graph and its weights, as optimum-intel and openvino_genai name them."""
_FORMATS = {
    "f32": ("fp32", 32),
    "f16": ("fp16", 16),
    "bf16": ("bf16", 16),
    "u8": ("int8_asym", 8),
    "i8": ("int8_sym", 8),
    "u4": ("int4_asym", 4),
    "i4": ("int4_sym", 4),
    "nf4": ("nf4", 4),
    "f4e2m1": ("fp4", 4),
    "f8e4m3": ("fp8", 8),
    "f8e5m2": ("fp8_e5m2", 8),
}
"""Name and bits of a weight by its constant's element type. NNCF stores asymmetric weights unsigned with a zero point
and symmetric ones signed, so the type tells the scheme."""

FLOATING = ("fp32", "fp16", "bf16")
_GRANULARITY = re.compile(r"/(scale|zero_point)(_\d+)?$")
_CODEBOOK = "_nncf_codebook_idxs"
"""NNCF's ending for constants that point into a table of 16 values."""


@dataclass(frozen=True)
class Constant:
    """A Const of the IR: its friendly name, element type, shape, and where its bytes lie in the .bin."""

    name: str
    element_type: str
    shape: tuple[int, ...]
    offset: int
    bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def is_weight(self) -> bool:
        """A matrix of weights: at least two dimensions above 1, of a weight's type, no scale and no zero point."""
        return (
            self.element_type in _FORMATS
            and sum(size > 1 for size in self.shape) >= 2
            and not _GRANULARITY.search(self.name)
        )


def check_ir(xml: Path) -> None:
    """Refuse an IR whose .bin is shorter than its .xml says: a disk that filled up can truncate it silently.

    Raises EdgespecError when a file is missing, the .xml does not parse, or a constant ends beyond the .bin.
    """
    binary = xml.with_suffix(".bin")
    for path in (xml, binary):
        if not path.is_file():
            raise EdgespecError(f"'{path}' is missing; the model is incomplete, make it again")
    size = binary.stat().st_size
    for constant in list(read_constants(xml)):  # read to its end, so that no file stays open behind the error
        if constant.offset + constant.bytes > size:
            raise EdgespecError(
                f"'{binary}' has {size:,} bytes and the constant '{constant.name}' ends at "
                f"{constant.offset + constant.bytes:,}: it is truncated (was the disk full?); make it again"
            )


def require_room_left(folder: Path) -> None:
    """Raise OSError (ENOSPC) when the disk holding `folder` is full; call it after a failed conversion or save.

    OpenVINO and the libraries above it report a full disk as "iostream error" or swallow it.
    """
    if shutil.disk_usage(folder).free < 1_000_000:
        raise OSError(errno.ENOSPC, "no space left on the disk", str(folder))


def read_constants(xml: Path) -> Iterator[Constant]:
    """Every Const of the IR, also in loops and branches. Raises EdgespecError when the .xml does not parse."""
    try:
        for _, element in ElementTree.iterparse(xml):
            if element.tag != "layer":
                continue
            data = element.find("data")
            if element.get("type") == "Const" and data is not None and data.get("size") is not None:
                shape = data.get("shape") or ""
                yield Constant(
                    name=element.get("name", ""),
                    element_type=data.get("element_type", ""),
                    shape=tuple(int(part) for part in shape.split(",") if part.strip()),
                    offset=int(data.get("offset", 0)),
                    bytes=int(data.get("size", 0)),
                )
            element.clear()
    except (ElementTree.ParseError, ValueError) as error:
        raise EdgespecError(f"'{xml}' is not a whole OpenVINO model ({error}); make it again") from error


def weights_by_precision(xml: Path) -> dict[str, tuple[int, int]]:
    """Precision -> (matrices, weights in them), most weights first. A tied embedding counts once."""
    constants = list(read_constants(xml))
    scales = {constant.name: constant for constant in constants if constant.name.endswith("/scale")}
    found: dict[str, tuple[int, int]] = {}
    for constant in _distinct(constants):
        if constant.is_weight:
            name = _precision(constant, scales.get(f"{constant.name.removesuffix(_CODEBOOK)}/scale"))
            matrices, weights = found.get(name, (0, 0))
            found[name] = (matrices + 1, weights + constant.elements)
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def _precision(weight: Constant, scale: Constant | None) -> str:
    """Such as fp16, int8_asym (one scale a row) or int4_sym_g128: 128 neighbours, with an own axis, share one."""
    name, bits = _FORMATS[weight.element_type]
    if weight.name.endswith(_CODEBOOK):
        name = "cb4"
    if scale is not None and scale.element_type == "f8e8m0":  # a power of two for 32 weights: the MX formats
        return f"mx{name}"
    if bits > 4 or len(weight.shape) < 3:
        return name
    group = weight.shape[-1]
    if scale is not None and len(scale.shape) == len(weight.shape):
        group = next((w for w, s in zip(weight.shape, scale.shape, strict=True) if s == 1 and w > 1), group)
    return f"{name}_g{group}"


def weight_precision(xml: Path) -> str:
    """The one name for how an IR stores its weights: of those with the fewest bits, the one that most weights have.

    An int4 model keeps its embedding and head in int8; it is called int4.
    """
    found = weights_by_precision(xml)
    if not found:
        raise EdgespecError(f"'{xml}' holds no weights; it is not a language model")
    bits = {**dict(_FORMATS.values()), "cb4": 4, "mxfp4": 4, "mxfp8": 8}
    return min(found, key=lambda name: (bits[re.sub(r"_g\d+$", "", name)], -found[name][1]))


def input_names(xml: Path) -> frozenset[str]:
    """Names of the model's inputs: one that wants `hidden_states` is an EAGLE draft, which the target must feed."""
    found = set()
    try:
        for _, element in ElementTree.iterparse(xml):
            if element.tag == "layer":
                if element.get("type") == "Parameter":
                    found.add(element.get("name", ""))
                    found.update(name for port in element.iter("port") for name in port.get("names", "").split(","))
                element.clear()
    except ElementTree.ParseError as error:
        raise EdgespecError(f"'{xml}' is not a whole OpenVINO model ({error}); make it again") from error
    return frozenset(found)


def count_parameters(xml: Path) -> int:
    """Weights of the model, quantized or not; scales and zero points are none, a tied embedding counts once.

    Vectors that the converter folded away (norm weights that are all 1) are missing from it.
    """
    return sum(
        constant.elements
        for constant in _distinct(read_constants(xml))
        if constant.element_type in _FORMATS and constant.elements > 1 and not _GRANULARITY.search(constant.name)
    )


def _distinct(constants: Iterable[Constant]) -> Iterator[Constant]:
    """Constants by their bytes: one that two layers share lies once in the .bin."""
    seen: set[tuple[int, int]] = set()
    for constant in constants:
        place = (constant.offset, constant.bytes)
        if place not in seen:
            seen.add(place)
            yield constant
