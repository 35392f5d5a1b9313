"""A Hugging Face checkpoint before anything heavy loads: where it is, what it is, and every reason not to export it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgespec.errors import EdgespecError
from edgespec.pair import Kind, Role, Source
from edgespec.progress import SILENT, Progress
from edgespec.vocabulary import vocab_size

from . import dtypes, hub
from .code import require_trusted
from .eagle import is_eagle3, require_plain_eagle3
from .weights import Stored, stored, weight_files

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken")


@dataclass(frozen=True)
class Checkpoint:
    """A model that may be exported. Its weights may still have to be fetched (`fetch`).

    name: as the user typed it. weights: bytes by file name in `folder`. absent: those of them still to be fetched.
    numbers: by the safetensors headers; None when these are not here yet or the weights are pickled. kind, layers: what
    is to be made of it, see pair.ModelRecord.
    """

    name: str
    folder: Path
    source: Source
    config: dict[str, Any]
    weights: dict[str, int]
    numbers: Stored | None
    absent: Mapping[str, int] = field(default_factory=dict)
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
        if self.numbers and self.numbers.by_dtype:
            return max(self.numbers.by_dtype, key=self.numbers.by_dtype.__getitem__)
        names = {"bfloat16": "bf16", "float16": "fp16"}
        return names.get(str(self.config.get("dtype") or self.config.get("torch_dtype")), "fp32")

    @property
    def weight_count(self) -> int:
        """Numbers that an export will hold: those of the weight files, without the layers that an early exit leaves
        out. An estimate where the headers do not tell."""
        if self.numbers is not None:
            left_out = sum(n for layer, n in self.numbers.by_layer.items() if layer >= (self.layers or layer + 1))
            return self.numbers.total - left_out
        total = sum(self.weights.values()) // dtypes.BYTES.get(self.stored, 4)
        if self.layers is None:
            return total
        text = self.config.get("text_config") or self.config
        ends = vocab_size(self.config) * int(text.get("hidden_size") or 0)
        ends = min(total, ends if text.get("tie_word_embeddings") else 2 * ends)
        return ends + (total - ends) * self.layers // _depth(text)

    @property
    def long_beyond(self) -> int | None:
        """Of a model with two sets of rotary factors (longrope, as Phi-3 and Phi-4-mini have it): the number of tokens
        beyond which the long ones are taken; None for any other."""
        text = self.config.get("text_config") or self.config
        rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
        if (rope.get("rope_type") or rope.get("type")) not in ("longrope", "su"):
            return None
        limit = rope.get("original_max_position_embeddings") or text.get("original_max_position_embeddings")
        return limit if isinstance(limit, int) else None

    def exported_bytes(self, dtype: str) -> int:
        """An estimate of what the exported model takes on disk: its weights, and the tokenizer in its three forms."""
        tokenizer = sum(path.stat().st_size for path in self.folder.glob("tokenizer*") if path.is_file())
        return self.weight_count * dtypes.BYTES[dtype] + 3 * tokenizer + 1_000_000

    def early_exit(self, layers: int) -> Checkpoint:
        """The first `layers` layers of this model, with its final norm and head. Raises EdgespecError unless that is
        fewer than it has, and at least one."""
        text = self.config.get("text_config") or self.config
        has = _depth(text)
        if not has:
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
    model = _inspect(name, found.folder, source, found.weight_sizes, role, trust_remote_code, allow_pickle)
    return replace(model, absent={file: size for file, size in found.absent.items() if file in model.weights})


def fetch(
    checkpoint: Checkpoint,
    *,
    role: Role = "target",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Progress = SILENT,
) -> Checkpoint:
    """Bring the weights of a hub id here, and look at the whole as `open_checkpoint` looks at a directory: only now do
    the weights' headers tell whether they are whole and of which type. A checkpoint that is here stays as it is."""
    if all((checkpoint.folder / name).is_file() for name in checkpoint.weights):
        if checkpoint.numbers is not None or checkpoint.pickled:
            return checkpoint
    else:
        hub.fetch(
            checkpoint.name, checkpoint.source, checkpoint.folder, checkpoint.weights, checkpoint.absent, progress
        )
    return _inspect(checkpoint.name, checkpoint.folder, checkpoint.source, None, role, trust_remote_code, allow_pickle)


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
    require_trusted(name, folder, config, trust_remote_code)
    kind: Kind = "eagle3" if is_eagle3(config) else "model"
    if kind == "model" and not any(next(folder.glob(pattern), None) for pattern in _TOKENIZERS):
        raise EdgespecError(
            f"'{name}' has no tokenizer (tokenizer.json or tokenizer.model), and without one upstream makes one up; "
            "copy its tokenizer files beside config.json"
        )
    present = remote if remote is not None else {path.name: path.stat().st_size for path in folder.iterdir()}
    files = weight_files(name, folder, present, allow_pickle)
    numbers = None
    if remote is None and files[0].endswith(".safetensors"):
        numbers = stored(folder / file for file in files)
    return Checkpoint(name, folder, source, config, {file: present[file] for file in files}, numbers, kind=kind)


def _depth(text: Mapping[str, Any]) -> int:
    """Layers that a configuration states; 0 when it states none."""
    has = text.get("num_hidden_layers") or text.get("n_layer")
    return has if isinstance(has, int) else 0


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
