"""A Hugging Face checkpoint before anything heavy loads: where it is, what it is, and every reason not to export it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Kind, Role, Source

from . import dtypes, hub
from .eagle import is_eagle3, require_plain_eagle3
from .weights import elements_by_dtype, weight_files

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")


@dataclass(frozen=True)
class Checkpoint:
    """A model that may be exported. Its weights may still have to be fetched (`hub.fetch_weights`).

    name: as the user typed it. weights: bytes by file name in `folder`.
    elements: numbers by the type they are stored in, from the safetensors headers; None when these are not here yet or
    the weights are pickled. kind, layers: what is to be made of it, see pair.ModelRecord.
    """

    name: str
    folder: Path
    source: Source
    config: dict[str, Any]
    weights: dict[str, int]
    elements: Mapping[str, int] | None
    kind: Kind = "model"
    layers: int | None = None

    @property
    def architecture(self) -> str:
        return str((self.config.get("architectures") or [self.config.get("model_type", "unknown")])[0])

    @property
    def has_tokenizer_json(self) -> bool:
        return (self.folder / "tokenizer.json").is_file()

    @property
    def pickled(self) -> bool:
        return not next(iter(self.weights)).endswith(".safetensors")

    @property
    def stored(self) -> str:
        """The type that most weights are stored in, such as bf16; by config.json when the weights do not tell."""
        if self.elements:
            return max(self.elements, key=self.elements.__getitem__)
        names = {"bfloat16": "bf16", "float16": "fp16"}
        return names.get(str(self.config.get("dtype") or self.config.get("torch_dtype")), "fp32")

    @property
    def weight_count(self) -> int:
        """Numbers in the weight files, an estimate where the headers do not tell."""
        if self.elements is not None:
            return sum(self.elements.values())
        return sum(self.weights.values()) // dtypes.BYTES.get(self.stored, 4)

    def exported_bytes(self, dtype: str) -> int:
        """An estimate of what the exported model takes on disk: its weights, and the tokenizer in its three forms."""
        tokenizer = sum(path.stat().st_size for path in self.folder.glob("tokenizer*") if path.is_file())
        return self.weight_count * dtypes.BYTES[dtype] + 3 * tokenizer + 1_000_000

    def early_exit(self, layers: int) -> Checkpoint:
        """The first `layers` layers of this model, with its final norm and head. Raises EdgespecError unless that is
        fewer than it has, and at least one."""
        text = self.config.get("text_config") or self.config
        has = text.get("num_hidden_layers") or text.get("n_layer")
        if not isinstance(has, int):
            raise EdgespecError(
                f"the config.json of '{self.name}' does not say how many layers it has; use no early exit"
            )
        if not 1 <= layers < has:
            raise EdgespecError(
                f"--early-exit got {layers} and '{self.name}' has {has} layers; give a number from 1 to {has - 1}"
            )
        return replace(self, kind="early_exit", layers=layers)


def open_checkpoint(
    name: str,
    *,
    role: Role = "target",
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Checkpoint:
    """Find a checkpoint directory or a hub id, and read its small files. An EAGLE-3 head is one only as a draft.

    Raises EdgespecError with the first reason why it cannot be exported: it does not exist, is no causal language
    model, has no tokenizer, no or damaged safetensors, quantized weights, or code that is not pinned.
    """
    path = Path(name)
    if path.is_dir():
        if revision is not None:
            raise EdgespecError(f"'{name}' is a directory, and a revision names a commit of a hub id; leave one out")
        return _inspect(name, path, Source(id=name), None, role, trust_remote_code, allow_pickle)
    if path.exists():
        raise EdgespecError(f"'{name}' is a file; give the directory of a Hugging Face checkpoint, or a hub id")
    if not hub.is_id(name):
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
    return _inspect(name, found.folder, source, found.weight_sizes, role, trust_remote_code, allow_pickle)


def _inspect(
    name: str,
    folder: Path,
    source: Source,
    remote: dict[str, int] | None,
    role: Role,
    trust_remote_code: bool,
    allow_pickle: bool,
) -> Checkpoint:
    config = _config(name, folder)
    _require_causal(name, config, role)
    _require_pinned_code(name, config, trust_remote_code)
    kind: Kind = "eagle3" if is_eagle3(config) else "model"
    if kind == "model" and not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        raise EdgespecError(
            f"'{name}' has no tokenizer (tokenizer.json or tokenizer.model), and without one upstream makes one up; "
            "copy its tokenizer files beside config.json"
        )
    present = remote if remote is not None else {path.name: path.stat().st_size for path in folder.iterdir()}
    files = weight_files(name, folder, present, allow_pickle)
    elements = None
    if remote is None and files[0].endswith(".safetensors"):
        elements = sum((elements_by_dtype(folder / file) for file in files), Counter[str]())
    return Checkpoint(name, folder, source, config, {file: present[file] for file in files}, elements, kind)


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


def _require_causal(name: str, config: dict[str, Any], role: Role) -> None:
    architectures = config.get("architectures") or []
    if not architectures:
        raise EdgespecError(
            f"the config.json of '{name}' names no architecture, so it is not known to be a causal language model; "
            'add one, such as "architectures": ["LlamaForCausalLM"]'
        )
    architecture = str(architectures[0])
    if is_eagle3(config):
        if role == "target":
            raise EdgespecError(
                f"'{name}' is an EAGLE-3 head ({architecture}), which drafts for a model and is none; give the model "
                f"it was trained for as the target, and this one with --draft"
            )
        require_plain_eagle3(name, config)
    elif "eagle" in architecture.lower():
        raise EdgespecError(
            f"'{name}' is an EAGLE head ({architecture}) of a generation that openvino-genai does not run; choose an "
            "EAGLE-3 head, or an independent model"
        )
    elif not architecture.endswith(("ForCausalLM", "LMHeadModel")):
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
