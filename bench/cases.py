"""What a run asks: each turn of each prompt, behind each length of context. A case is asked of every arm in the same
token ids; the prompt it comes from stays the unit that statistics draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgespec.engine.reading import Reading, start_ids
from edgespec.errors import EdgespecError

from .prompts import Prompt


@dataclass(frozen=True)
class Case:
    """id: the prompt's, with #2 for its second turn and @4096 for a context of so many tokens.
    context: tokens of other text in front; None: the prompt as it is."""

    id: str
    prompt: str
    category: str
    turn: int = 1
    context: int | None = None


class Tokenizing(Protocol):
    """What is needed of an engine to make token ids of a prompt."""

    @property
    def has_chat_template(self) -> bool: ...
    def encode(self, text: str, *, special: bool) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str: ...


def cases_of(prompts: Sequence[Prompt], contexts: Sequence[int] = ()) -> tuple[Case, ...]:
    """Every turn of every prompt, behind every length of context."""
    return tuple(
        Case(
            prompt.id + (f"#{turn}" if turn > 1 else "") + (f"@{context}" if context is not None else ""),
            prompt.id,
            prompt.category,
            turn,
            context,
        )
        for context in (contexts or (None,))
        for prompt in prompts
        for turn in range(1, len(prompt.turns) + 1)
    )


def first_turn(prompt: Prompt, engine: Tokenizing) -> list[int]:
    """The ids of a prompt's first turn as it is, for those who ask no more."""
    return PromptBook([prompt]).ids(cases_of([prompt])[0], engine)


class PromptBook:
    """Token ids of cases. A second turn stands behind the first one's answer as plain decoding gave it (`answers`, by
    prompt and turn), so that every arm continues the same conversation."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._ids: dict[str, list[int]] = {}
        self._filler: list[int] | None = None
        self.answers: dict[tuple[str, int], list[int]] = {}

    def ids(self, case: Case, engine: Tokenizing) -> list[int]:
        """The case's prompt in tokens; made once, by whichever engine asks first (all share the target's tokenizer)."""
        if case.id not in self._ids:
            self._ids[case.id] = self._make(case, engine)
        return self._ids[case.id]

    def _make(self, case: Case, engine: Tokenizing) -> list[int]:
        prompt = self._prompts[case.prompt]
        alone = self._conversation(prompt, case.turn, "", engine)
        if case.context is None:
            return alone
        wanted = case.context - len(alone)
        if wanted <= 0:
            return alone
        filler = self._other_text(engine)
        before = (filler * (wanted // len(filler) + 1))[:wanted]
        if not prompt.chat:
            start = len(start_ids(engine))
            return alone[:start] + before + alone[start:]
        return self._conversation(prompt, case.turn, engine.decode(before) + "\n\n", engine)

    def _conversation(self, prompt: Prompt, turn: int, before: str, engine: Tokenizing) -> list[int]:
        """The model's chat template where prompt and model have one; else the turns and answers, one after another."""
        messages = []
        for number, text in enumerate(prompt.turns[:turn], start=1):
            messages.append({"role": "user", "content": (before if number == 1 else "") + text})
            if number < turn:
                answer = self.answers.get((prompt.id, number))
                if answer is None:
                    raise EdgespecError(f"plain decoding gave no answer to turn {number} of '{prompt.id}'")
                messages.append({"role": "assistant", "content": engine.decode(answer)})
        if prompt.chat and engine.has_chat_template:
            return Reading.of_chat(engine, messages).ids(engine)
        return Reading("\n\n".join(message["content"] for message in messages)).ids(engine)

    def _other_text(self, engine: Tokenizing) -> list[int]:
        """The suite's own texts in order: words of the same kind, none of which answers the prompt."""
        if self._filler is None:
            texts = [text for prompt in self._prompts.values() for text in prompt.turns]
            self._filler = engine.encode("\n\n".join(texts) + "\n\n", special=False)
        return self._filler
