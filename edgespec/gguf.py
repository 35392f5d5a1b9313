"""The head of a GGUF file: what the model is and which tokens it has, read without its weights.

Layout (github.com/ggml-org/ggml, docs/gguf.md): "GGUF", u32 version, u64 number of tensors, u64 number of key-value
pairs; then the pairs (string key, u32 type, value), then the tensors' names, shapes, types and offsets. Little endian.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import EdgespecError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_TENSORS = {0: "fp32", 1: "fp16", 2: "Q4_0", 3: "Q4_1", 8: "Q8_0", 12: "Q4_K", 14: "Q6_K", 30: "bf16"}
"""Of ggml's types, those that openvino_genai (2026.4) reads, and bf16."""
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2)}
"""Numbers in a block, and bytes of it."""
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""What openvino_genai reads (OpenVINO GenAI documentation, "GGUF support")."""
_LONGEST = 1 << 26
_SPECIALS = {"bos": "bos", "eos": "eos", "pad": "padding"}
_UNUSED = 5
"""A token's type, of six: normal, unknown, control, user-defined, unused, byte."""


@dataclass(frozen=True)
class GgufHead:
    """metadata: the key-value pairs. parameters: numbers in all tensors. precision: the type that most of them have."""

    metadata: dict[str, Any]
    parameters: int
    precision: str

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def tokens(self) -> list[str]:
        """The text of each token by id, in the spelling of tokenizer.json; empty when the file has none."""
        return [str(token) for token in self.metadata.get("tokenizer.ggml.tokens") or []]

    @property
    def begins_with_bos(self) -> bool:
        """Whether bos is put before a text; where the file says that it is not, its id stands for nothing."""
        return self.metadata.get("tokenizer.ggml.add_bos_token") is not False

    @property
    def specials(self) -> dict[str, int | None]:
        """The ids of bos, eos and pad; pad falls back to eos."""
        found = {name: self.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIALS.items()}
        if found["pad"] is None:
            found["pad"] = found["eos"]
        return found

    def unused(self, index: int) -> bool:
        """Whether the token of that id pads the embedding: no text becomes it."""
        kinds = self.metadata.get("tokenizer.ggml.token_type") or []
        return index < len(kinds) and kinds[index] == _UNUSED

    def fingerprint(self) -> str:
        """Hex sha256 of tokens, merges and special ids."""
        document = [self.tokens, self.merges, self.specials]
        return hashlib.sha256(json.dumps(document, ensure_ascii=True).encode("ascii")).hexdigest()

    @property
    def merges(self) -> list[str]:
        return [str(merge) for merge in self.metadata.get("tokenizer.ggml.merges") or []]


def read_gguf(path: Path) -> GgufHead:
    """Read the head of the GGUF file at `path`.

    Raises EdgespecError when it is no GGUF file, is cut short, or is one that openvino_genai does not read.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise EdgespecError(f"'{path}' is not a GGUF file: it does not begin with GGUF; fetch it again")
            version, tensors, pairs = struct.unpack("<IQQ", _take(file, 20))
            if version not in (2, 3):
                raise EdgespecError(f"'{path}' is GGUF version {version}, and 2 and 3 are read; convert the model anew")
            metadata = {_text(file): _value(file, *struct.unpack("<I", _take(file, 4))) for _ in range(pairs)}
            if int(metadata.get("split.count", 1)) > 1:
                raise EdgespecError(
                    f"'{path}' is one of {metadata['split.count']} parts of a model, and one file is read; join them "
                    "with llama.cpp's gguf-split --merge"
                )
            elements: Counter[int] = Counter()
            end = 0
            for _ in range(tensors):
                name = _text(file)
                (dimensions,) = struct.unpack("<I", _take(file, 4))
                shape = struct.unpack(f"<{dimensions}Q", _take(file, 8 * dimensions))
                kind, offset = struct.unpack("<IQ", _take(file, 12))
                if kind not in _TENSORS:
                    raise EdgespecError(
                        f"the weight '{name}' of '{path}' has ggml type {kind}, which openvino-genai does not read; "
                        "take a file in Q4_0, Q4_K_M, Q8_0 or F16"
                    )
                elements[kind] += math.prod(shape)
                numbers, size = _BLOCKS[kind]
                end = max(end, offset + math.prod(shape) // numbers * size)
            alignment = int(metadata.get("general.alignment", 32))
            end += -(-file.tell() // alignment) * alignment
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise EdgespecError(f"the head of '{path}' is cut short or damaged; fetch it again") from error
    if path.stat().st_size < end:
        raise EdgespecError(
            f"'{path}' has {path.stat().st_size:,} bytes where its head says {end:,}: it is truncated; fetch it again"
        )
    precision = _TENSORS[max(elements, key=elements.__getitem__)] if elements else "unknown"
    head = GgufHead(metadata, sum(elements.values()), precision)
    if head.architecture not in ARCHITECTURES:
        raise EdgespecError(
            f"'{path}' is a {head.architecture} model, and of GGUF files openvino-genai reads "
            f"{', '.join(ARCHITECTURES)}; export the original checkpoint with: edgespec export"
        )
    if not head.tokens:
        raise EdgespecError(f"'{path}' holds no tokenizer (tokenizer.ggml.tokens); take a whole model")
    return head


def _take(file: BinaryIO, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise struct.error("the file ends")
    return found


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _take(file, 8))
    if length > _LONGEST:
        raise struct.error("a string is too long")
    return _take(file, length).decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _take(file, 12))
        if count > _LONGEST:
            raise struct.error("an array is too long")
        if inner in _SCALARS:
            width = struct.calcsize(f"<{_SCALARS[inner]}")
            return list(struct.unpack(f"<{count}{_SCALARS[inner]}", _take(file, width * count)))
        return [_value(file, inner) for _ in range(count)]
    if kind not in _SCALARS:
        raise struct.error(f"there is no type {kind}")
    return struct.unpack(f"<{_SCALARS[kind]}", _take(file, struct.calcsize(f"<{_SCALARS[kind]}")))[0]
