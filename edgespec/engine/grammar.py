"""Answers that must follow a grammar: a JSON schema, a regular expression or a Lark grammar, through llguidance.

It forbids tokens in `Processor`, so target and draft are held to the grammar alike and acceptance stays exact. The
grammar's state follows the text it is asked about: what is common with the last question is kept, the rest is taken
back, so that a tree's branches and refused drafts cost a few steps of the parser each. Needs edgespec[grammar].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EdgespecError


class Vocabulary:
    """What the tokens of a model spell. Made once a model (0.1 s for 8,000 tokens); serves any number of grammars."""

    def __init__(self, folder: Path, vocab_size: int, stop_ids: Sequence[int]) -> None:
        """folder: holds tokenizer.json. vocab_size: length of the masks; ids that the tokenizer lacks are forbidden.
        stop_ids: tokens that end the text, allowed where the grammar is satisfied. Raises EdgespecError."""
        guidance = _llguidance()
        if not stop_ids:
            raise EdgespecError("a grammar needs a token that ends the text, and this model names none")
        path = folder / "tokenizer.json"
        try:
            spelled = path.read_text(encoding="utf-8")
            self.tokenizer = guidance.LLTokenizer(spelled, n_vocab=vocab_size, eos_token=list(stop_ids))
        except (OSError, ValueError) as error:
            raise EdgespecError(
                f"a grammar needs the tokenizer as one file, and '{path}' cannot be used: {error}; export the pair "
                "from a checkpoint that has a fast tokenizer"
            ) from error
        self.vocab_size = vocab_size
        self.stop_ids = tuple(stop_ids)


class Grammar:
    """A `Constraint` of one generation. Not to be shared by two at a time."""

    def __init__(self, vocabulary: Vocabulary, source: str) -> None:
        """source: as `json_schema`, `regex` or `lark` give it. Raises EdgespecError with the parser's complaint."""
        self._vocab_size = vocabulary.vocab_size
        self._stop_ids = vocabulary.stop_ids
        self._matcher = _llguidance().LLMatcher(vocabulary.tokenizer, source, log_level=0)
        self._taken: list[int] = []
        self._require_sound()

    def allowed(self, answer: Sequence[int]) -> np.ndarray:
        """bool [vocab_size] of the tokens that may follow `answer` (ids, without the prompt's).

        Behind a token that ended the text, only such tokens. Raises EdgespecError for an answer that breaks the grammar
        already, and when the grammar is too large to go on with.
        """
        text = list(answer)
        end = min((text.index(token) for token in self._stop_ids if token in text), default=None)
        self._follow(text[:end])
        if end is not None and self.satisfied:
            only_ends = np.zeros(self._vocab_size, bool)
            only_ends[list(self._stop_ids)] = True
            return only_ends
        if end is not None:
            raise EdgespecError(f"the answer ended at place {end}, before its grammar was satisfied")
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        self._require_sound()
        return bits[: self._vocab_size].astype(bool)

    @property
    def satisfied(self) -> bool:
        """Whether the text last asked about is a whole sentence of the grammar."""
        return bool(self._matcher.is_accepting())

    def _follow(self, answer: list[int]) -> None:
        common = 0
        for known, token in zip(self._taken, answer, strict=False):
            if known != token:
                break
            common += 1
        if common < len(self._taken):
            self._matcher.rollback(len(self._taken) - common)
        taken = int(self._matcher.try_consume_tokens(answer[common:]))
        self._taken = answer[: common + taken]
        self._require_sound()
        if len(self._taken) < len(answer):
            raise EdgespecError(
                f"token {answer[common + taken]} at place {common + taken} of the answer breaks the grammar; the text "
                "that the grammar is held against must have been generated under it"
            )

    def _require_sound(self) -> None:
        if self._matcher.is_error():
            raise EdgespecError(f"the grammar cannot be used: {self._matcher.get_error().strip()}")


def json_schema(schema: Mapping[str, Any] | str) -> str:
    """The grammar of the JSON documents that `schema` describes, without blanks between their parts. A string is a
    schema as text. Raises EdgespecError."""
    try:
        parsed = json.loads(schema) if isinstance(schema, str) else dict(schema)
        source = _llguidance().LLMatcher.grammar_from_json_schema(parsed, defaults={"whitespace_flexible": False})
    except (ValueError, TypeError) as error:
        raise EdgespecError(f"this is no JSON schema: {error}") from error
    return str(source)


def regex(pattern: str) -> str:
    """The grammar of the texts that match `pattern` as a whole (Rust regex syntax)."""
    return str(_llguidance().LLMatcher.grammar_from_regex(pattern))


def lark(text: str) -> str:
    """A Lark grammar whose first rule is `start`."""
    return str(_llguidance().LLMatcher.grammar_from_lark(text))


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise EdgespecError(
            'grammars need the package llguidance, which is not installed; run: pip install "edgespec[grammar]"'
        ) from error
    return llguidance
