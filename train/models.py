"""Checkpoints from a folder or the hub, with a sentence where one does not load or does not fit another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from edgespec import vocabulary
from edgespec.errors import EdgespecError

MODEL = "model"
"""In a training run's folder, the checkpoint that it came to."""


def checkpoint_in(folder: Path) -> Path:
    """The checkpoint of a stage's or a run's folder: `model` in it, or itself."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder


def load_model(name: str | Path, *, dtype: Any = "auto") -> Any:
    """The causal LM at `name`, a folder or hub id. dtype: a torch dtype, or "auto" for the checkpoint's own.

    Raises EdgespecError when it does not load.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(str(name), dtype=dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EdgespecError(f"the model '{name}' cannot be loaded: {first_line(error)}") from error


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer at `name`. Raises EdgespecError when there is none."""
    try:
        return AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError, KeyError) as error:
        raise EdgespecError(f"the tokenizer of '{name}' cannot be loaded: {first_line(error)}") from error


def require_same_vocabulary(target: str | Path, draft: str | Path) -> None:
    """Refuse two checkpoints whose tokenizers differ: a draft speaks its target's ids. Folders are compared by all that
    decides an id, what lies on the hub by its token-to-id map.

    Raises EdgespecError naming the differences.
    """
    if Path(target).is_dir() and Path(draft).is_dir():
        vocabulary.require_shared(Path(target), Path(draft), str(target), str(draft))
        return
    ours, theirs = load_tokenizer(target).get_vocab(), load_tokenizer(draft).get_vocab()
    other = [token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)]
    if other:
        raise EdgespecError(
            f"'{draft}' and '{target}' do not share a vocabulary: {len(other)} tokens differ, {min(other)!r} for one; "
            "make the draft with edgespec train init, which takes over the target's tokenizer"
        )


def stop_ids(model: Any) -> frozenset[int]:
    """Ids that end a text by the model's generation config."""
    ends = model.generation_config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
