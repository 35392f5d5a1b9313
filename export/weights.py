"""The weight files of a checkpoint: which of them transformers will read, and what their headers say."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError

_DTYPES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")


def weight_files(name: str, folder: Path, present: dict[str, int], allow_pickle: bool) -> tuple[str, ...]:
    """The weight files that transformers will read: safetensors, else pickles where they were asked for.

    present: bytes by name of every file of the checkpoint, here or on the hub. Raises EdgespecError when there are
    none, when one of the index is missing, or when there are only pickles and nobody asked for them.
    """
    for suffix, index in ((".safetensors", "model.safetensors.index.json"), (".bin", "pytorch_model.bin.index.json")):
        if suffix == ".bin" and not allow_pickle:
            break
        if (folder / index).is_file():
            try:
                wanted = sorted(set(json.loads((folder / index).read_bytes())["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise EdgespecError(f"the {index} of '{name}' is damaged ({error!r}); fetch it again") from error
            missing = [weight for weight in wanted if weight not in present]
            if missing or not wanted:
                raise EdgespecError(
                    f"'{name}' lacks {len(missing)} of the {len(wanted)} weight files in its index, such as "
                    f"'{missing[0] if missing else index}'; fetch it again"
                )
            return tuple(wanted)
        single = index.removesuffix(".index.json")
        if single in present:
            return (single,)
    pickled = re.compile(r"(pytorch_model|model|consolidated).*\.(bin|pt|pth)")
    if any(pickled.fullmatch(file) for file in present):
        if allow_pickle:
            raise EdgespecError(f"'{name}' has no model.safetensors and no pytorch_model.bin; convert its weights")
        raise EdgespecError(
            f"'{name}' has no safetensors, only pickled weights, which can run code when they are read; convert them "
            "to safetensors, or pass --allow-pickle if you trust whoever made them"
        )
    raise EdgespecError(f"'{name}' has no weights (model.safetensors); fetch the whole checkpoint")


@dataclass(frozen=True)
class Stored:
    """How many numbers a checkpoint holds. by_dtype: fp32, fp16, bf16, or safetensors' own name for another type.
    by_layer: those that belong to one layer of the decoder, by its index."""

    by_dtype: Mapping[str, int]
    by_layer: Mapping[int, int]

    @property
    def total(self) -> int:
        return sum(self.by_dtype.values())


def stored(paths: Iterable[Path]) -> Stored:
    """What the headers of safetensors files say. Refuses a file that is shorter than its header says."""
    by_dtype: Counter[str] = Counter()
    by_layer: Counter[int] = Counter()
    for path in paths:
        for name, tensor in _header(path).items():
            count = math.prod(tensor["shape"])
            by_dtype[_DTYPES.get(tensor["dtype"], tensor["dtype"])] += count
            layer = _LAYER.search(name)
            if layer is not None:
                by_layer[int(layer[1])] += count
    return Stored(by_dtype, by_layer)


def _header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name, as its header describes them.

    Layout: 8 bytes of header length (little endian), the header in JSON, the tensors' bytes
    (https://github.com/huggingface/safetensors, "Format").
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, size)))
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        for tensor in header.values():
            math.prod(tensor["shape"]), str(tensor["dtype"])
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise EdgespecError(f"'{path}' is not a whole safetensors file; fetch it again") from error
    if size < 8 + length + end:
        raise EdgespecError(
            f"'{path}' has {size:,} bytes where its header says {8 + length + end:,}: it is truncated; fetch it again"
        )
    return dict(header)
