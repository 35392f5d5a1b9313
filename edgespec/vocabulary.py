"""Whether two models speak the same tokens: read from tokenizer.json by content, never from a name or a size.

Speculation hands the draft's token ids to the target, so both must map text to ids alike. What decides ids is compared:
the token->id map, merges or scores, normaliser, pre-tokenizer, added tokens, the tokens put around a text, and the ids
of bos, eos and pad. What does not is left out: truncation, padding, the decoder, chat templates, names, key order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import EdgespecError
from .gguf import GgufHead

_SHOWN = 3  # examples in a sentence


@dataclass(frozen=True)
class _Vocabulary:
    ids: dict[str, int]
    model: dict[str, Any]  # the model's type and switches, without vocabulary and merges
    merges: list[list[str]]
    scores: list[float]  # Unigram only, by id
    normalizer: Any
    pre_tokenizer: Any
    added: dict[str, dict[str, Any]]  # how each added token matches
    around: dict[str, list[int]]  # ids put before and after a single text
    special: dict[str, int | None]  # bos, eos, pad


def fingerprint(tokenizer_dir: Path) -> str:
    """Hex sha256 of everything that decides token ids in the tokenizer below `tokenizer_dir`.

    Equal for two directories exactly when `compare` finds no difference.
    Raises EdgespecError when tokenizer.json is missing or is not a tokenizer.
    """
    document = json.dumps(vars(_read(tokenizer_dir)), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(document.encode("ascii")).hexdigest()


def compare(target_dir: Path, draft_dir: Path) -> list[str]:
    """The differences between two tokenizers, one sentence part each; empty when they share a vocabulary.

    Rows of the embedding beyond the tokens (padding, `vocab_size` in config.json) may differ and are not looked at.
    Raises EdgespecError when a tokenizer.json is missing or is not a tokenizer.
    """
    target, draft = _read(target_dir), _read(draft_dir)
    found = [*_id_differences(target.ids, draft.ids)]
    if target.model != draft.model:
        found.append(f"the tokenizer's model: {_both(target.model, draft.model)}")
    if target.merges != draft.merges:
        found.append(_first_merge(target.merges, draft.merges))
    if target.scores != draft.scores:
        found.append("the tokens' scores")
    if target.normalizer != draft.normalizer:
        found.append(f"the normaliser: {_both(target.normalizer, draft.normalizer)}")
    if target.pre_tokenizer != draft.pre_tokenizer:
        found.append(f"the pre-tokenizer: {_both(target.pre_tokenizer, draft.pre_tokenizer)}")
    found += _added_differences(target, draft)
    if target.around != draft.around:
        found.append(f"the ids put around a text: {_both(target.around, draft.around)}")
    for name in target.special:
        if target.special[name] != draft.special[name]:
            found.append(f"{name}: {_id(target.special[name])} in the target, {_id(draft.special[name])} in the draft")
    return found


def require_shared(target_dir: Path, draft_dir: Path, target: str, draft: str) -> None:
    """Raise EdgespecError naming the differences unless the two tokenizers are the same by content."""
    _refuse(compare(target_dir, draft_dir), target, draft)


def _refuse(found: list[str], target: str, draft: str) -> None:
    if found:
        raise EdgespecError(
            f"the target '{target}' and the draft '{draft}' do not share a vocabulary, so ids of one say nothing to "
            f"the other; they differ in {'; '.join(found)}; choose a draft made for this target"
        )


def require_shared_gguf(head: GgufHead, draft_dir: Path, target: str, draft: str) -> None:
    """The same for a target that is a GGUF file: tokens by id, merges, the id of eos, and that of bos where it is
    put before a text. Such a file only names its normaliser and pre-tokenizer, so these are not compared."""
    own = _read(draft_dir)
    ids = {token: index for index, token in enumerate(head.tokens) if token in own.ids or not head.unused(index)}
    found = [*_id_differences(ids, own.ids)]
    merges = [list(merge.split(" ", 1)) for merge in head.merges]
    if merges and own.merges and merges != own.merges:
        found.append(_first_merge(merges, own.merges))
    for name, value in head.specials.items():
        counts = name == "eos" or (name == "bos" and head.begins_with_bos)
        if counts and value != own.special[name]:
            found.append(f"{name}: {_id(value)} in the target, {_id(own.special[name])} in the draft")
    _refuse(found, target, draft)


def vocab_size(config: dict[str, Any]) -> int:
    """Rows of the embedding that a config.json states, padding included; 0 when it states none."""
    size = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return size if isinstance(size, int) else 0


def _read(folder: Path) -> _Vocabulary:
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise EdgespecError(f"'{folder}' has no tokenizer.json, so its vocabulary cannot be compared")
    document = _json(path)
    model = document.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
        raise EdgespecError(f"'{path}' is not a tokenizer: it has no model with a vocabulary")
    config = _json(path.with_name("tokenizer_config.json"), optional=True)
    try:
        return _vocabulary(document, model, config, path.parent)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise EdgespecError(f"'{path}' is not laid out as a tokenizer.json: {error!r}") from error


def _vocabulary(document: dict[str, Any], model: dict[str, Any], config: dict[str, Any], folder: Path) -> _Vocabulary:
    vocab = model["vocab"]
    scores: list[float] = []
    if isinstance(vocab, list):  # Unigram: [token, score] by id
        ids = {token: index for index, (token, _) in enumerate(vocab)}
        scores = [score for _, score in vocab]
    else:
        ids = dict(vocab)
    entries = {int(entry["id"]): entry for entry in document.get("added_tokens") or []}
    for key, entry in (config.get("added_tokens_decoder") or {}).items():
        entries.setdefault(int(key), entry)  # transformers adds these when it loads
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    added = {entry["content"]: {flag: bool(entry.get(flag, False)) for flag in flags} for entry in entries.values()}
    ids |= {entry["content"]: index for index, entry in entries.items()}
    return _Vocabulary(
        ids=ids,
        model={key: value for key, value in model.items() if key not in ("vocab", "merges") and value not in _UNSET},
        merges=[
            list(pair.split(" ", 1)) if isinstance(pair, str) else list(pair) for pair in model.get("merges") or []
        ],
        scores=scores,
        normalizer=_step(document.get("normalizer")),
        pre_tokenizer=_step(document.get("pre_tokenizer")),
        added=added,
        around=_around(document.get("post_processor"), ids),
        special=_special(config, ids, folder),
    )


_UNSET = (None, False, "")


def _step(step: Any) -> Any:
    """A normaliser or pre-tokenizer in one spelling, whichever release of `tokenizers` wrote it."""
    if not isinstance(step, dict):
        return None
    step = dict(step)
    for parts in ("normalizers", "pretokenizers"):
        if step.get("type") == "Sequence" and parts in step:
            inner = [part for part in map(_step, step[parts]) if part is not None]
            return {"type": "Sequence", parts: inner} if len(inner) > 1 else (inner[0] if inner else None)
    if step.get("type") == "ByteLevel":
        step.pop("trim_offsets", None)  # moves offsets, not ids
        step.setdefault("use_regex", True)
    if step.get("type") == "Metaspace":
        step.pop("str_rep", None)
        always = step.pop("add_prefix_space", True)
        step.setdefault("prepend_scheme", "always" if always else "never")
        step.setdefault("split", True)
    return step


def _around(processor: Any, ids: dict[str, int]) -> dict[str, list[int]]:
    """The ids that the post-processor puts before and after a single text."""
    before: list[int] = []
    after: list[int] = []
    kind = processor.get("type") if isinstance(processor, dict) else None
    if kind == "Sequence":
        for part in processor["processors"]:
            inner = _around(part, ids)
            before, after = inner["before"] + before, after + inner["after"]
    elif kind in ("BertProcessing", "RobertaProcessing"):
        before, after = [processor["cls"][1]], [processor["sep"][1]]
    elif kind == "TemplateProcessing":
        side = before
        for piece in processor["single"]:
            if "Sequence" in piece:
                side = after
            else:
                name = piece["SpecialToken"]["id"]
                side += (processor.get("special_tokens") or {}).get(name, {}).get("ids") or [ids[name]]
    return {"before": before, "after": after}


def _special(config: dict[str, Any], ids: dict[str, int], folder: Path) -> dict[str, int | None]:
    """bos, eos and pad as OpenVINO's tokenizer will have them: by the tokenizer's files first, then by the model's.

    A null in tokenizer_config.json means "none", as to transformers; pad falls back to eos, as in openvino_genai.
    """
    token_map = _json(folder / "special_tokens_map.json", optional=True)
    models = [_json(folder / name, optional=True) for name in ("generation_config.json", "config.json")]
    special: dict[str, int | None] = {}
    for name in ("bos", "eos", "pad"):
        value: Any = None
        for document in (config, token_map):
            if f"{name}_token" in document:
                token = document[f"{name}_token"]
                value = ids.get(token["content"] if isinstance(token, dict) else token)
                break
        else:
            for document in models:
                value = document.get(f"{name}_token_id")
                value = value[0] if isinstance(value, list) and value else value
                if value is not None:
                    break
        special[name] = value if isinstance(value, int) else None
    if special["pad"] is None:
        special["pad"] = special["eos"]
    return special


def _json(path: Path, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EdgespecError(f"'{path}' cannot be read as JSON: {error}; it may be truncated, fetch it again") from error
    if not isinstance(document, dict):
        raise EdgespecError(f"'{path}' does not hold a JSON object; fetch it again")
    return document


def _id_differences(target: dict[str, int], draft: dict[str, int]) -> Iterable[str]:
    if len(target) != len(draft):
        yield f"the number of tokens: {len(target)} in the target, {len(draft)} in the draft"
    for name, own, other in (("target", target, draft), ("draft", draft, target)):
        only = sorted((token for token in own if token not in other), key=own.__getitem__)
        if only:
            yield f"tokens that only the {name} has: {_examples(f'{token!r} (id {own[token]})' for token in only)}"
    moved = sorted((t for t in target if t in draft and draft[t] != target[t]), key=target.__getitem__)
    if moved:
        yield (
            f"the ids of {len(moved)} tokens, target and draft: "
            f"{_examples(f'{token!r} {target[token]} and {draft[token]}' for token in moved)}"
        )


def _first_merge(target: list[list[str]], draft: list[list[str]]) -> str:
    rank = next(
        (i for i, (a, b) in enumerate(zip(target, draft, strict=False)) if a != b), min(len(target), len(draft))
    )
    shown = [repr(" ".join(merges[rank])) if rank < len(merges) else "none" for merges in (target, draft)]
    return (
        f"the merges ({len(target)} in the target, {len(draft)} in the draft), first at rank {rank}: "
        f"{shown[0]} in the target, {shown[1]} in the draft"
    )


def _added_differences(target: _Vocabulary, draft: _Vocabulary) -> Iterable[str]:
    for token in sorted(target.added.keys() | draft.added.keys()):
        if token not in target.ids or token not in draft.ids:
            continue  # said already
        own, other = target.added.get(token), draft.added.get(token)
        if own is None or other is None:
            yield f"the token {token!r}, which is an added token only in the {'draft' if own is None else 'target'}"
        elif own != other:
            flags = ", ".join(flag for flag in own if own[flag] != other[flag])
            yield f"how the added token {token!r} matches ({flags})"


def _examples(items: Iterable[str]) -> str:
    items = list(items)
    rest = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + rest


def _both(target: Any, draft: Any) -> str:
    return f"{_short(target)} in the target, {_short(draft)} in the draft"


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= 160 else text[:157] + "..."


def _id(value: int | None) -> str:
    return "none" if value is None else str(value)
