"""From the type a checkpoint is stored in to the type it is exported in, by the way that needs the least memory.

A weight that keeps its stored type stays in the checkpoint's file, mapped, from torch through OpenVINO to the written
.bin; one that torch converts becomes anonymous memory. So torch converts only where nobody else can:

    stored   exported   torch loads   who converts
    same                as stored     nobody
    fp32     fp16       fp32          OpenVINO, constant by constant while it writes
    bf16     fp16       bf16          recast.py, block by block in the written .bin
    fp16     bf16       fp16          the same
    other               exported      torch, in memory
"""

from __future__ import annotations

from dataclasses import dataclass

from edgespec.errors import EdgespecError

BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
"""Bytes of a weight by the types to export in."""
AUTO = "auto"


@dataclass(frozen=True)
class Route:
    """How a checkpoint gets to the type it is exported in. load: the type that torch loads; written: what OpenVINO
    writes; exported: what the pair has; mapped: the weights stay in the checkpoint's files until they are written."""

    load: str
    written: str
    exported: str
    mapped: bool

    @property
    def recast(self) -> bool:
        return self.written != self.exported


def resolve(asked: str, stored: str) -> str:
    """The type to export in. "auto": bf16 stays bf16 (its range does not fit fp16 in general), all else becomes fp16.

    Raises EdgespecError naming the choices.
    """
    if asked == AUTO:
        return "bf16" if stored == "bf16" else "fp16"
    if asked not in BYTES:
        raise EdgespecError(f"'{asked}' is not a dtype to export in; choose {AUTO}, {', '.join(BYTES)}")
    return asked


def route(stored: str, exported: str) -> Route:
    """The way from `stored` to `exported` (see the table above)."""
    if stored == exported:
        return Route(exported, exported, exported, mapped=True)
    if (stored, exported) == ("fp32", "fp16"):
        return Route("fp32", "fp16", "fp16", mapped=True)
    if {stored, exported} == {"bf16", "fp16"}:
        return Route(stored, stored, exported, mapped=True)
    return Route(exported, exported, exported, mapped=False)
