"""What a model reads: text to ids and back, and the one rule of which ids a prompt has.

A text that stands alone begins with what its tokenizer adds by itself, such as a BOS; the output of a chat template has
its own. SpecPipeline, the server, bench, verify, tune and train evaluate take the rule from here, so that what is
measured is what users get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import EdgespecError, last_line


class Encodes(Protocol):
    """Text to ids. special: with what the tokenizer adds by itself."""

    def encode(self, text: str, *, special: bool) -> list[int]: ...


class Templates(Protocol):
    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str: ...


@dataclass(frozen=True)
class Reading:
    """Text for a model to go on from. alone: nothing stands before it, so the tokenizer adds what it adds."""

    text: str
    alone: bool = True

    @classmethod
    def of_chat(cls, model: Templates, messages: Sequence[Mapping[str, str]]) -> Reading:
        """What the model's chat template makes of `messages` (role and content each). Raises EdgespecError when there
        is none, or when it refuses them."""
        return cls(model.chat_prompt(messages), alone=False)

    def ids(self, model: Encodes) -> list[int]:
        """None for an empty text, whatever a tokenizer would add to it: there is nothing to go on from."""
        return model.encode(self.text, special=self.alone) if self.text else []


def start_ids(model: Encodes) -> tuple[int, ...]:
    """What the tokenizer puts before a text that stands alone, such as <bos>."""
    whole, bare = model.encode("a", special=True), model.encode("a", special=False)
    for count in range(len(whole) - len(bare) + 1):
        if whole[count:][: len(bare)] == bare:
            return tuple(whole[:count])
    return ()


class HasTokenizer:
    """Text and ids by an openvino_genai.Tokenizer, which threads may use at once."""

    _tokenizer: Any
    _without_template = "give it plain text to continue instead"

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`, no chat template. special: with what the tokenizer adds by itself, such as a BOS: for
        text that stands alone, not for the output of a chat template (see Reading) nor for a part of a text."""
        text = text.encode("utf-8", errors="replace").decode("utf-8")  # a lone surrogate is no text
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=special).input_ids.data[0]]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))) if ids else ""

    def ends(self, folder: Path, config: Any = None) -> tuple[int, frozenset[int]]:
        """(the end of text, -1 for none; all ids that end a text): by `config`, an openvino_genai.GenerationConfig,
        where it names any, by generation_config.json in the model's `folder` else, and last by the tokenizer. A
        pipeline with a draft or prompt lookup tells of none, though it ends at them, and forgets them where a request
        has stop tokens of its own."""
        import openvino_genai

        path = folder / "generation_config.json"
        if config is None or (config.eos_token_id < 0 and not config.stop_token_ids):
            config = openvino_genai.GenerationConfig(str(path)) if path.is_file() else openvino_genai.GenerationConfig()
        end = int(config.eos_token_id if config.eos_token_id >= 0 else self._tokenizer.get_eos_token_id())
        return end, frozenset({*([end] if end >= 0 else []), *map(int, config.stop_token_ids)})

    @property
    def has_chat_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The model's chat template applied to `messages`. Raises EdgespecError when the model has none, or when it
        does not take them (some know no system message)."""
        if not self.has_chat_template:
            raise EdgespecError(f"this model has no chat template; {self._without_template}")
        try:
            return str(self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True))
        except RuntimeError as error:
            raise EdgespecError(f"the model's chat template refuses this conversation: {last_line(error)}") from error
