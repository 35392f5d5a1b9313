"""A Hugging Face checkpoint before anything heavy loads: where it is, what it is, and every reason not to export it."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Source

from . import hub

DTYPE_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")


@dataclass(frozen=True)
class Checkpoint:
    """A causal language model that may be exported. Its weights may still have to be fetched (`hub.fetch_weights`).

    name: as the user typed it. weights: bytes by file name in `folder`.
    weight_count: from the safetensors headers; None when they are not here yet or are pickled.
    """

    name: str
    folder: Path
    source: Source
    config: dict[str, Any]
    weights: dict[str, int]
    weight_count: int | None

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [self.config.get("model_type", "unknown")])[0])

    @property
    def has_tokenizer_json(self) -> bool:
        return (self.folder / "tokenizer.json").is_file()

    def exported_bytes(self, dtype: str) -> int:
        """An estimate of what the exported model takes on disk: its weights, and the tokenizer in its three forms."""
        tokenizer = sum(path.stat().st_size for path in self.folder.glob("tokenizer*") if path.is_file())
        if self.weight_count is not None:
            weights = self.weight_count * DTYPE_BYTES[dtype]
        else:
            stored = str(self.config.get("dtype") or self.config.get("torch_dtype") or "float32")
            weights = sum(self.weights.values()) * DTYPE_BYTES[dtype] // (4 if stored == "float32" else 2)
        return weights + 3 * tokenizer + 1_000_000


def open_checkpoint(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False, allow_pickle: bool = False
) -> Checkpoint:
    """Find a checkpoint directory or a hub id, and read its small files.

    Raises EdgespecError with the first reason why it cannot be exported: it does not exist, is no causal language
    model, has no tokenizer, no or damaged safetensors, quantized weights, or code that is not pinned.
    """
    path = Path(name)
    if path.is_dir():
        if revision is not None:
            raise EdgespecError(f"'{name}' is a directory, and a revision names a commit of a hub id; leave one out")
        return _inspect(name, path, Source(id=name), None, trust_remote_code, allow_pickle)
    if path.exists():
        raise EdgespecError(f"'{name}' is a file; give the directory of a Hugging Face checkpoint, or a hub id")
    if not _HUB_ID.fullmatch(name):
        raise EdgespecError(
            f"there is no directory '{name}'; give the directory of a Hugging Face checkpoint or a hub id"
        )
    if trust_remote_code and not _COMMIT.fullmatch(revision or ""):
        raise EdgespecError(
            f"--trust-remote-code runs code that '{name}' brings along, so it needs a revision that cannot change: "
            "read the code, then give the full commit hash (40 hex digits) as the revision"
        )
    found = hub.find(name, revision, with_code=trust_remote_code)
    source = Source(id=name, revision=found.commit)
    return _inspect(name, found.folder, source, found.weight_sizes, trust_remote_code, allow_pickle)


def _inspect(
    name: str,
    folder: Path,
    source: Source,
    remote: dict[str, int] | None,
    trust_remote_code: bool,
    allow_pickle: bool,
) -> Checkpoint:
    config = _config(name, folder)
    _require_causal(name, config)
    _require_pinned_code(name, config, trust_remote_code)
    if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        raise EdgespecError(
            f"'{name}' has no tokenizer (tokenizer.json or tokenizer.model), and without one upstream makes one up; "
            "copy its tokenizer files beside config.json"
        )
    present = remote if remote is not None else {path.name: path.stat().st_size for path in folder.iterdir()}
    files = _weight_files(name, folder, present, allow_pickle)
    count = None
    if remote is None and files[0].endswith(".safetensors"):
        count = sum(_elements(folder / file) for file in files)
    return Checkpoint(name, folder, source, config, {file: present[file] for file in files}, count)


def _config(name: str, folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        hint = "give the directory of a Hugging Face checkpoint, or a hub id"
        if (folder / "edgespec.json").is_file():
            hint = "it is a pair already, compress it with: edgespec quantize"
        elif (folder / "adapter_config.json").is_file():
            hint = "it is an adapter, merge it into its model first"
        raise EdgespecError(f"'{name}' has no config.json; {hint}")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise EdgespecError(f"the config.json of '{name}' is not valid JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise EdgespecError(f"the config.json of '{name}' does not hold a JSON object; fetch it again")
    if not next(folder.glob("*.safetensors"), None) and (folder / "openvino_model.xml").is_file():
        raise EdgespecError(f"'{name}' is an OpenVINO model already; export the checkpoint it was made from")
    return config


def _require_causal(name: str, config: dict[str, Any]) -> None:
    architectures = config.get("architectures") or []
    if not architectures:
        raise EdgespecError(
            f"the config.json of '{name}' names no architecture, so it is not known to be a causal language model; "
            'add one, such as "architectures": ["LlamaForCausalLM"]'
        )
    architecture = str(architectures[0])
    if "eagle" in architecture.lower():
        raise EdgespecError(
            f"'{name}' is an EAGLE head ({architecture}), and export takes whole models; give one as draft"
        )
    if not architecture.endswith(("ForCausalLM", "LMHeadModel")):
        raise EdgespecError(
            f"'{name}' is a {architecture}, and edgespec exports causal language models, whose architecture ends in "
            "ForCausalLM; choose such a model"
        )
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization
        raise EdgespecError(
            f"the weights of '{name}' are quantized already ({method}); export the original checkpoint and compress it "
            "with: edgespec quantize"
        )


def _require_pinned_code(name: str, config: dict[str, Any], trust_remote_code: bool) -> None:
    code = config.get("auto_map")
    if not trust_remote_code or not isinstance(code, dict):
        return
    for entry in code.values():
        for place in entry if isinstance(entry, list) else [entry]:
            if isinstance(place, str) and "--" in place:
                raise EdgespecError(
                    f"'{name}' loads code from another repository ('{place.split('--')[0]}'), which its revision does "
                    "not pin; copy that code beside config.json and correct auto_map"
                )


def _weight_files(name: str, folder: Path, present: dict[str, int], allow_pickle: bool) -> tuple[str, ...]:
    """The weight files that transformers will read: safetensors, else pickles where they were asked for."""
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


def _elements(path: Path) -> int:
    """Numbers in a safetensors file, by its header; refuses a file that is shorter than the header says.

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
        elements = sum(math.prod(tensor["shape"]) for tensor in header.values())
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgespecError(f"'{path}' is not a whole safetensors file; fetch it again") from error
    if size < 8 + length + end:
        raise EdgespecError(
            f"'{path}' has {size:,} bytes where its header says {8 + length + end:,}: it is truncated; fetch it again"
        )
    return int(elements)
