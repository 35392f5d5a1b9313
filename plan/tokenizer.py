"""A tokenizer of exactly the size asked for, that reads any text and whose live tokens are printable ASCII.

Byte-level BPE: one end-of-text token (bos, eos and pad), the 256 bytes, then pairs of printable characters, then pairs
of such pairs, most frequent letters first, so that English text takes about two characters a token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from edgespec.errors import EdgespecError

END = "<|endoftext|>"
END_ID = 0
SMALLEST = 512
"""Tokens of the smallest vocabulary: below, too few pairs remain beside the 256 bytes for a cycle."""

FREQUENT = " etaoinshrdlcumwfgypbvk"
_PRINTABLE = FREQUENT + "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in FREQUENT)


@dataclass(frozen=True)
class Vocabulary:
    """tokens: as tokenizer.json spells them, by id. merges: left and right part. live: ids of printable tokens."""

    tokens: list[str]
    merges: list[tuple[str, str]]
    live: np.ndarray


def synthetic_vocabulary(size: int) -> Vocabulary:
    """A vocabulary of `size` tokens. Raises EdgespecError when that is below SMALLEST."""
    if size < SMALLEST:
        raise EdgespecError(f"a twin's vocabulary has at least {SMALLEST} tokens, not {size}; choose a larger one")
    spelling = _byte_spelling()
    tokens = [END, *spelling]
    merges: list[tuple[str, str]] = []
    singles = [spelling[ord(character)] for character in _PRINTABLE]
    pairs = [left + right for left, right in _squarewise(singles)]
    for parts in (singles, pairs):
        for left, right in _squarewise(parts):
            if len(tokens) == size:
                break
            merges.append((left, right))
            tokens.append(left + right)
    if len(tokens) < size:
        raise EdgespecError(f"a twin's vocabulary has at most {len(tokens)} tokens, not {size}")
    live = [1 + ord(character) for character in sorted(_PRINTABLE)] + list(range(257, size))
    return Vocabulary(tokens, merges, np.asarray(live, dtype=np.int64))


def write_tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    """Write tokenizer.json and tokenizer_config.json, as transformers and openvino_tokenizers read them."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": END_ID, "content": END, **flags}],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(vocabulary.tokens)},
            "merges": vocabulary.merges,
        },
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 30,
    }
    for name, document in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
        (folder / name).write_text(json.dumps(document) + "\n", encoding="utf-8", newline="\n")


def _byte_spelling() -> list[str]:
    """The printable character that stands for each byte in a byte-level tokenizer.json (the GPT-2 table: a byte that
    prints as itself in Latin-1 keeps its character, the others follow from U+0100 on)."""
    keeps = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(0x100)
    return [chr(byte if byte in keeps else next(others)) for byte in range(256)]


def _squarewise(parts: list[str]) -> Iterator[tuple[str, str]]:
    """All ordered pairs, those of early parts first: every pair of the first n before any with part n."""
    for n, part in enumerate(parts):
        for other in parts[:n]:
            yield other, part
            yield part, other
        yield part, part
