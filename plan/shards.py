"""Checkpoint files written as they are made: a safetensors file takes tensors block by block, never whole.

The safetensors package serialises a file from complete arrays and copies them once more; the embedding of an 8 B model
alone then takes 2 GB. The format is simple enough to stream: 8 bytes of header length (little endian), the header in
JSON, the tensors' bytes one after the other (https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

DTYPE = np.dtype("<f2")
_HEADER_ALIGNMENT = 8

Blocks = Iterable[np.ndarray]


def write_shard(path: Path, tensors: Sequence[tuple[str, tuple[int, ...], Blocks]]) -> int:
    """Write tensors (name, shape, blocks of its leading rows) as float16 and return their bytes.

    Raises ValueError when a tensor's blocks do not fill its shape: the header is written first.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape, _ in tensors:
        start, end = end, end + math.prod(shape) * DTYPE.itemsize
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, blocks in tensors:
            written = 0
            for block in blocks:
                written += file.write(np.ascontiguousarray(block, dtype=DTYPE).data)
            if written != math.prod(shape) * DTYPE.itemsize:
                raise ValueError(f"{name}: {written} bytes written for the shape {shape}")
    return end


def open_tensor(path: Path, name: str, writable: bool = False) -> np.memmap:
    """One tensor of a float16 safetensors file, mapped from disk."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(length))[name]
    offset = 8 + length + entry["data_offsets"][0]
    return np.memmap(path, DTYPE, "r+" if writable else "r", offset, tuple(entry["shape"]))


def write_index(folder: Path, weight_map: dict[str, str], total_bytes: int) -> None:
    """Write model.safetensors.index.json, which says in which file each tensor is."""
    document = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8", newline="\n")
