"""Checkpoints from a folder or the hub, with a sentence where one does not load or does not fit another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from edgespec.errors import EdgespecError


def load_model(name: str | Path, *, dtype: Any = "auto") -> Any:
    """The causal LM at `name`, a folder or hub id. dtype: a torch dtype, or "auto" for the checkpoint's own.

    Raises EdgespecError when it does not load.
    """
    try:
        return AutoModelForCausalLM.from_pretrained(str(name), dtype=dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EdgespecError(f"the model '{name}' cannot be loaded: {_first_line(error)}") from error


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer at `name`. Raises EdgespecError when there is none."""
    try:
        return AutoTokenizer.from_pretrained(str(name))
    except (OSError, ValueError, KeyError) as error:
        raise EdgespecError(f"the tokenizer of '{name}' cannot be loaded: {_first_line(error)}") from error


def require_same_vocabulary(target: Any, draft: Any, target_name: str | Path, draft_name: str | Path) -> None:
    """Refuse two tokenizers that do not map the same tokens to the same ids: a draft speaks its target's ids."""
    ours, theirs = target.get_vocab(), draft.get_vocab()
    if ours == theirs:
        return
    other = [token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)]
    example = min(other)
    raise EdgespecError(
        f"'{draft_name}' and '{target_name}' do not share a vocabulary: {len(other)} tokens differ, {example!r} for "
        f"one; train the draft from edgespec train init, which takes over the target's tokenizer"
    )


def stop_ids(model: Any) -> frozenset[int]:
    """Ids that end a text by the model's generation config."""
    ends = model.generation_config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
