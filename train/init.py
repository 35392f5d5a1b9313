"""A draft to begin with: configuration and weights from a target whose tokenizer, vocabulary and ids it shares.

Three beginnings: "scratch", random weights; "copy", chosen layers of the target as they are (depth pruning: the width
must be the target's); "project", chosen layers brought to another width (projection.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from edgespec import vocabulary
from edgespec.errors import EdgespecError
from edgespec.progress import SILENT, Progress
from edgespec.staging import staged_directory

from .projection import Projector, principal_directions
from .shapes import Head, Shape, choose_shape, draft_config, parameters, spread, text_config
from .target_weights import TargetWeights, joined

Beginning = Literal["copy", "project", "scratch"]
RECORD = "init.json"
_TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.jinja",
    "*.model",
)
_SMALL = (*_TOKENIZER, "config.json", "generation_config.json")


@dataclass(frozen=True)
class InitConfig:
    """shape, or the number of parameters that one is chosen for. layers: of the target, by number; evenly spread when
    None. head: tied to the embedding, of its own, or as the target's."""

    shape: Shape | None = None
    parameters: int | None = None
    beginning: Beginning = "scratch"
    layers: tuple[int, ...] | None = None
    head: Head = "target"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shape is None and self.parameters is None and not (self.beginning == "copy" and self.layers):
            raise EdgespecError("say how large the draft is to be: --params 50M or --shape LAYERSxHIDDEN")
        if self.shape is not None and self.parameters is not None:
            raise EdgespecError("give either a shape or a number of parameters, not both")
        if self.layers is not None and self.shape is not None and len(self.layers) != self.shape.layers:
            raise EdgespecError(
                f"{len(self.layers)} layers of the target are named and the shape {self.shape} has {self.shape.layers}"
            )
        if self.layers is not None and self.beginning == "scratch":
            raise EdgespecError("a draft from scratch copies no layers; leave out --layers, or give --from-target copy")


def make_draft(target: str, config: InitConfig, out: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Write a draft for `target` (a directory or a hub id) into the new directory `out`; what it is, as init.json.

    Raises EdgespecError for a family that cannot be done, a shape that is impossible, layers that the target lacks.
    """
    folder = _fetched(target, weights=config.beginning != "scratch", progress=progress)
    wide = text_config(_config(folder, target))
    shape, chosen = _shape(wide, config)
    narrow = draft_config(wide, shape, chosen, config.head, config.beginning != "scratch")
    if shape.layers >= wide.num_hidden_layers and shape.hidden >= wide.hidden_size:
        raise EdgespecError(
            f"a draft of {shape} is no smaller than its target ({_shape_of(wide)}); give a smaller shape"
        )
    torch.manual_seed(config.seed)
    with progress.task(f"making a draft of {shape}"), staged_directory(out, parameters(narrow) * 4, progress) as made:
        model = AutoModelForCausalLM.from_config(narrow, dtype=torch.float32)
        if config.beginning != "scratch":
            project = narrow.hidden_size != wide.hidden_size
            _fill(model, wide, narrow, chosen, TargetWeights(folder), project)
        model.save_pretrained(made)
        _copy_tokenizer(folder, made)
        record = {
            "target": target,
            "shape": str(shape),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "embedding_parameters": model.get_input_embeddings().weight.numel(),
            "head": "tied" if narrow.tie_word_embeddings else "untied",
            "from_target": config.beginning,
            "layers": chosen if config.beginning != "scratch" else None,
            "seed": config.seed,
            "tokenizer": vocabulary.fingerprint(made),
        }
        (made / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")
    return {**record, "draft": str(out)}


def _shape(wide: Any, config: InitConfig) -> tuple[Shape, list[int]]:
    copied = config.beginning == "copy"
    shape = config.shape
    if shape is None and config.parameters is None and config.layers:
        shape = Shape(len(config.layers), wide.hidden_size)
    if shape is None:
        assert config.parameters is not None
        hidden = wide.hidden_size if copied else None
        shape = choose_shape(wide, config.parameters, config.head, config.beginning != "scratch", hidden)
        if config.layers is not None and len(config.layers) != shape.layers:
            raise EdgespecError(
                f"{config.parameters / 1e6:.1f} M parameters make {shape} and {len(config.layers)} layers are named; "
                "give --shape"
            )
    if copied and shape.hidden != wide.hidden_size:
        raise EdgespecError(
            f"layers can be copied at the target's hidden size alone, {wide.hidden_size}, and {shape.hidden} was asked "
            "for; give --from-target project"
        )
    if shape.hidden > wide.hidden_size or shape.layers > wide.num_hidden_layers:
        raise EdgespecError(f"a draft of {shape} is larger than its target, {_shape_of(wide)}; give a smaller shape")
    chosen = list(config.layers) if config.layers else spread(shape.layers, wide.num_hidden_layers)
    wrong = [layer for layer in chosen if not 0 <= layer < wide.num_hidden_layers]
    if wrong or chosen != sorted(set(chosen)):
        raise EdgespecError(
            f"the layers are {', '.join(map(str, chosen))}; the target has 0 to {wide.num_hidden_layers - 1}, and they "
            "are given in rising order, each once"
        )
    return shape, chosen


def _shape_of(config: Any) -> Shape:
    return Shape(config.num_hidden_layers, config.hidden_size)


@torch.no_grad()
def _fill(model: Any, wide: Any, narrow: Any, layers: Sequence[int], weights: TargetWeights, project: bool) -> None:
    """Put the target's layers, embedding, last norm and head into `model`, projected where it is narrower."""
    embedding = weights.get("model.embed_tokens.weight")
    final = weights.get("model.norm.weight")
    own_head = not wide.tie_word_embeddings and "lm_head.weight" in weights
    head = weights.get("lm_head.weight") if own_head else embedding
    gemma = narrow.model_type.startswith("gemma")
    untied = not narrow.tie_word_embeddings
    state: dict[str, torch.Tensor] = {}
    projector = None
    if project:
        gain = final + 1 if gemma else final
        basis = principal_directions(embedding, head * gain if own_head else None, narrow.hidden_size)
        projector = Projector(basis, wide, narrow, gemma)
        # Gemma multiplies the embedding by the root of the width, so there the narrower one has to be larger
        state["model.embed_tokens.weight"] = projector.reads(embedding, None) * (projector.gain if gemma else 1)
        if untied:
            state["lm_head.weight"] = projector.reads(head, final)
            state["model.norm.weight"] = projector.unit()
        else:
            turned = projector.norm(final)
            state["model.norm.weight"] = (turned + 1) / projector.gain - 1 if gemma else turned
    else:
        state["model.embed_tokens.weight"], state["model.norm.weight"] = embedding, final
        if untied:
            state["lm_head.weight"] = head
    for number, layer in enumerate(layers):
        found = weights.layer(layer, wide)
        found = projector.layer(found) if projector else found
        if narrow.model_type == "phi3":
            found = joined(found)
        state |= {f"model.layers.{number}.{name}": weight for name, weight in found.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    left = [name for name in missing if not (name == "lm_head.weight" and not untied) and "rotary" not in name]
    if left or unexpected:
        raise EdgespecError(f"the target's weights do not fill the draft: {', '.join([*left, *unexpected][:4])}")


def _copy_tokenizer(folder: Path, made: Path) -> None:
    for pattern in (*_TOKENIZER, "generation_config.json"):
        for path in folder.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, made / path.name)
    if not (made / "tokenizer.json").is_file():
        raise EdgespecError(f"the target '{folder}' has no tokenizer.json, and a draft must share its tokenizer")


def _config(folder: Path, target: str) -> Any:
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise EdgespecError(f"the target '{target}' has no configuration that transformers reads: {error}") from error


def _fetched(target: str, weights: bool, progress: Progress) -> Path:
    """The target's directory, fetched from the hub when it is no directory here."""
    folder = Path(target).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        with progress.task(f"fetching '{target}'"):
            wanted = [*_SMALL, *(("*.safetensors", "*.index.json") if weights else ())]
            return Path(snapshot_download(target, allow_patterns=wanted))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EdgespecError(
            f"there is no directory '{target}' and no model of that name on the Hugging Face hub; check the spelling, "
            "or log in with: hf auth login (if it is gated or private)"
        ) from error
    except Exception as error:  # a connection that broke, in any of the client's libraries
        raise EdgespecError(
            f"'{target}' could not be fetched ({type(error).__name__}: {error}); what was fetched is kept: run the "
            "same command again to go on"
        ) from error
