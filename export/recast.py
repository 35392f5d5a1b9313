"""fp16 for bf16, or the other way round, in an IR that is written already: block by block, in the .bin, in place.

Both take two bytes, so no constant moves; memory holds one block, whatever the model's size.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import numpy as np

from edgespec.errors import EdgespecError

_ELEMENT = {"fp16": "f16", "bf16": "bf16"}  # in a Const
_PRECISION = {"fp16": "FP16", "bf16": "BF16"}  # of a port
_BLOCK = 1 << 22
_ALIGN = 64

Place = tuple[int, int]
"""Offset and size of a constant in the .bin, in bytes."""


def recast(xml: Path, name: str, stored: str, wanted: str) -> None:
    """Turn every constant of type `stored` in the IR of `name` at `xml` into `wanted` (fp16 and bf16, either way).

    Rounds to nearest, ties to even. Raises EdgespecError when a weight is too large for fp16. An IR of which this was
    interrupted is worthless: call it on one in a staging directory.
    """
    tree = ElementTree.parse(xml)
    root = tree.getroot()
    constants = [layer for layer in root.iter("layer") if layer.get("type") == "Const"]
    held: dict[str, list[ElementTree.Element]] = {"wanted": [], "other": []}
    for layer in constants:
        held["wanted" if _data(layer).get("element_type") == _ELEMENT[stored] else "other"].append(layer)
    elsewhere = {_place(layer) for layer in held["other"]}
    places = Counter(_place(layer) for layer in held["wanted"])
    moved: dict[Place, int] = {}
    with xml.with_suffix(".bin").open("r+b") as file:
        for offset, size in places:
            target = offset
            if (offset, size) in elsewhere:  # OpenVINO stores equal bytes once, whatever their types
                target = moved[offset, size] = -(-file.seek(0, os.SEEK_END) // _ALIGN) * _ALIGN
            _convert(file, name, offset, target, size, wanted)
    for layer in held["wanted"]:
        data = _data(layer)
        data.set("element_type", _ELEMENT[wanted])
        data.set("offset", str(moved.get(_place(layer), _place(layer)[0])))
    _rename_ports(root, held["wanted"], wanted)
    tree.write(xml, encoding="utf-8", xml_declaration=True)


def _convert(file: BinaryIO, name: str, offset: int, target: int, size: int, wanted: str) -> None:
    for start in range(0, size, 2 * _BLOCK):
        file.seek(offset + start)
        bits = np.frombuffer(file.read(min(2 * _BLOCK, size - start)), dtype="<u2")
        changed, lost = (_to_half if wanted == "fp16" else _to_bfloat)(bits)
        if lost:
            raise EdgespecError(
                f"'{name}' has weights beyond 65,504, the largest that fp16 holds ({lost} in one block); export it in "
                "bf16, its own type"
            )
        file.seek(target + start)
        file.write(changed.tobytes())


def _to_half(bits: np.ndarray) -> tuple[np.ndarray, int]:
    """bf16 bits u16 -> fp16, and how many finite numbers became infinite."""
    exact = (bits.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore"):
        half = exact.astype("<f2")
    return half, int(np.count_nonzero(np.isinf(half) & np.isfinite(exact)))


def _to_bfloat(bits: np.ndarray) -> tuple[np.ndarray, int]:
    """fp16 bits u16 -> bf16 bits; every fp16 number is within bf16's range. NaN is kept as one."""
    single = bits.view("<f2").astype("<f4")
    whole = single.view("<u4")
    rounded = (whole + 0x7FFF + ((whole >> 16) & 1)) >> 16
    return np.where(np.isnan(single), 0x7FC0, rounded).astype("<u2"), 0


def _data(layer: ElementTree.Element) -> ElementTree.Element:
    data = layer.find("data")
    if data is None:
        raise EdgespecError(f"the constant '{layer.get('name')}' of the written model has no data; export it again")
    return data


def _place(layer: ElementTree.Element) -> Place:
    data = _data(layer)
    return int(data.get("offset", 0)), int(data.get("size", 0))


def _rename_ports(root: ElementTree.Element, layers: list[ElementTree.Element], wanted: str) -> None:
    """Ports name their type too: those of the constants and of what reads them."""
    changed = set(map(id, layers))
    for graph in (net for net in root.iter() if net.find("layers") is not None):
        own = {layer.get("id"): layer for layer in graph.findall("layers/layer")}
        for layer in own.values():
            if id(layer) in changed:
                for port in layer.findall("output/port"):
                    port.set("precision", _PRECISION[wanted])
        for edge in graph.findall("edges/edge"):
            if id(own.get(edge.get("from-layer"))) in changed:
                for port in own[edge.get("to-layer")].findall("input/port"):
                    if port.get("id") == edge.get("to-port"):
                        port.set("precision", _PRECISION[wanted])
