"""The native engine: target and drafter over plain OpenVINO, with exact acceptance. Any drafter, chains and trees,
greedy or sampled; what it emits follows the target's distribution.

key: pending, the token that was emitted last and that the target has not seen yet; it is the root of the next pass.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..devices import require_device
from ..errors import EdgespecError
from ..pair import Pair
from ..sampling import GREEDY, Sampling
from .accept import accept
from .drafters import DRAFTERS
from .drafters.making import Place, Request
from .genai import require_draft
from .model import ModelSequence, open_model
from .processors import Constraint, Processor
from .proposal import NOTHING, Drafter, Verified
from .step import Generation, Step
from .stopping import Ending

OnTokens = Callable[[Sequence[int]], bool]
"""Called with each step's tokens as they come; returning True stops the generation."""


class NativeEngine:
    """A pair on a device with one drafter. Not for concurrent calls: one `generate` at a time."""

    name = "native"

    def __init__(
        self,
        pair: Pair,
        *,
        device: str,
        draft_device: str | None = None,
        mode: str = "draft",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Load and compile. mode: a drafter of DRAFTERS. Raises EdgespecError when pair, device and mode do not go
        together."""
        import openvino_genai

        if mode not in DRAFTERS:
            raise EdgespecError(f"the native engine has no mode '{mode}'; choose {', '.join(DRAFTERS)}")
        self._entry = DRAFTERS[mode]
        self.mode = mode
        self.device = _require_native(device)
        if self._entry.needs_draft and pair.draft is None:
            raise EdgespecError(f"mode '{mode}' needs a draft and the pair '{pair.root}' has none; use plain or copy")
        if self._entry.needs_draft:
            require_draft(pair, f"native-{mode}")
        if pair.manifest.target.kind == "gguf":
            raise EdgespecError(
                f"the target of '{pair.root}' is a GGUF file, which openvino-genai reads and the native engine does "
                "not; use plain, draft or lookup"
            )
        if draft_device and not self._entry.needs_draft:
            raise EdgespecError(f"a draft device was given for mode '{mode}', which uses no draft; leave it out")
        settings = dict(settings or {})
        self._target = open_model(pair.target, self.device, settings, trees=self._entry.trees)
        self._sequence = self._target.sequence()
        self.vocab_size = self._target.vocab_size
        if self._entry.needs_draft and pair.manifest.draft is not None:
            self.vocab_size = min(self.vocab_size, pair.manifest.draft.vocab_size)
        place = Place(pair, _require_native(draft_device or device), settings, self.vocab_size)
        self._drafter_for = self._entry.load()(place)
        self._drafter: Drafter | None = None
        self._caches_are_sound = True
        self._tokenizer = openvino_genai.Tokenizer(str(pair.target))
        self.stop_ids = _stop_ids(pair.target)

    def watch_drafter(self, wrap: Callable[[Drafter], Drafter]) -> None:
        """From now on each request's drafter is what `wrap` makes of it: to see what it proposes and what becomes of
        it, or to silence it."""
        make = self._drafter_for
        self._drafter_for = lambda request: wrap(make(request))

    def timing_sequence(self) -> ModelSequence:
        """Another, empty sequence on the compiled target: passes can be timed on it without a second copy of the
        weights, as long as no `generate` runs."""
        return self._target.sequence()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` as it stands: no special tokens added, no chat template."""
        text = text.encode("utf-8", errors="replace").decode("utf-8")  # a lone surrogate is no text
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))) if ids else ""

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The model's chat template applied to `messages`. Raises EdgespecError when the model has none."""
        if not self._tokenizer.chat_template:
            raise EdgespecError("this model has no chat template; give it plain text to complete instead")
        return str(self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True))

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        *,
        gamma: int | None = None,
        sampling: Sampling = GREEDY,
        on_tokens: OnTokens | None = None,
        reuse_prefix: bool = False,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Decode up to `max_new_tokens` tokens after `prompt_ids`, ending at the end of text.

        gamma: tokens proposed a step at most. reuse_prefix: keep what the caches hold of this prompt from the last
        call, as a chat does; a measurement of the prompt's pass does not. constraint: forbids tokens, a grammar for
        one (`vocab_size` and `stop_ids` are what it needs to know). Raises EdgespecError for an empty prompt. An
        exception raised by `on_tokens` stops the generation and is raised here; the engine survives it.
        """
        if not prompt_ids:
            raise EdgespecError("the prompt is empty; give at least one token to continue from")
        if not 1 <= max_new_tokens < 2**31:
            raise EdgespecError(f"max_new_tokens must be at least 1, and below 2^31, not {max_new_tokens}")
        gamma = self._gamma(gamma)
        processor = Processor(sampling, self.vocab_size, prompt_length=len(prompt_ids), constraint=constraint)
        request = Request(processor, np.random.default_rng(sampling.seed), reuse_prefix and self._caches_are_sound)
        self._drafter = self._drafter_for(request)
        ending = Ending(self.stop_ids | set(sampling.stop_token_ids), sampling.stop_strings, self.decode)
        token_ids: list[int] = []
        steps: list[Step] = []
        first_s: float | None = None
        cancelled = False
        started = time.perf_counter()
        try:
            for step in self._steps(prompt_ids, max_new_tokens, gamma, request, self._drafter):
                first_s = first_s or time.perf_counter()
                steps.append(step)
                certain = ending.take(step.tokens)
                token_ids += certain
                if on_tokens is not None and certain:
                    cancelled = on_tokens(certain)
                if ending.reached or cancelled:
                    break
            if not ending.reached and (held := ending.rest()):
                token_ids += held
                if on_tokens is not None and not cancelled:
                    on_tokens(held)
        except BaseException:  # it may have come between a pass and the count of what it left in a cache
            self._caches_are_sound = False
            raise
        self._caches_are_sound = True
        ended = time.perf_counter()
        return Generation(
            token_ids=token_ids,
            steps=_cut(steps, len(token_ids)),
            finish_reason="stop" if ending.reached else "length",
            ttft_s=(first_s or ended) - started,
            wall_s=ended - started,
        )

    def _steps(
        self, prompt_ids: Sequence[int], max_new_tokens: int, gamma: int, request: Request, drafter: Drafter
    ) -> Iterator[Step]:
        """The speculative loop. The first step is the prompt's pass, every other one verifies a proposal."""
        sequence, text = self._sequence, list(prompt_ids)
        drafter.begin(prompt_ids)
        if request.reuse_prefix:
            sequence.reuse(prompt_ids)
        else:
            sequence.reset()
        clock = time.perf_counter()
        logits = sequence.feed(text[len(sequence.tokens) :])
        _, pending = accept(NOTHING, logits, request.processor, text, request.rng)
        verify_s = time.perf_counter() - clock
        drafter.observe(Verified(NOTHING, (), pending, logits))
        text.append(pending)
        yield Step((pending,), 0, 0, 0.0, verify_s)

        while left := max_new_tokens - (len(text) - len(prompt_ids)):
            clock = time.perf_counter()
            proposal = drafter.propose(min(gamma, left - 1))
            draft_s, clock = _lap(clock)
            parents = None if proposal.is_chain else [-1, *(parent + 1 for parent in proposal.parents.tolist())]
            logits = sequence.grow([pending, *proposal.tokens.tolist()], parents)
            path, pending = accept(proposal, logits, request.processor, text, request.rng)
            sequence.keep((0, *(node + 1 for node in path)))
            verify_s, clock = _lap(clock)
            verified = Verified(proposal, path, pending, logits)
            drafter.observe(verified)
            text += verified.emitted
            draft_s += time.perf_counter() - clock
            yield Step(verified.emitted, len(proposal), len(path), draft_s, verify_s)

    def _gamma(self, gamma: int | None) -> int:
        if not self._entry.takes_gamma:
            return self._entry.gamma
        gamma = gamma if gamma is not None else self._entry.gamma
        if gamma < 1:
            raise EdgespecError(f"gamma must be at least 1 in mode '{self.mode}', not {gamma}; use mode 'plain' for 0")
        return gamma

    def close(self) -> None:
        """Free the models. The engine cannot be used afterwards."""
        if self._drafter is not None:
            self._drafter.close()
        for name in ("_drafter", "_drafter_for", "_sequence", "_target", "_tokenizer"):
            self.__dict__.pop(name, None)


def _lap(clock: float) -> tuple[float, float]:
    now = time.perf_counter()
    return now - clock, now


def _cut(steps: list[Step], tokens: int) -> list[Step]:
    """The steps, of whose tokens only the first so many belong to the answer."""
    kept: list[Step] = []
    for step in steps:
        if tokens <= 0:
            break
        if len(step.tokens) > tokens:
            accepted = min(step.accepted or 0, tokens)
            step = Step(step.tokens[:tokens], step.proposed, accepted, step.draft_s, step.verify_s)
        kept.append(step)
        tokens -= len(step.tokens)
    return kept


def _require_native(device: str) -> str:
    device = require_device(device)
    if device.startswith("NPU"):
        raise EdgespecError(
            "an NPU runs models of fixed shape only, which the native engine does not drive; use the genai engine, or "
            "device CPU or GPU"
        )
    return device


def _stop_ids(folder: Path) -> frozenset[int]:
    """Ids that end a text by the model's generation_config.json."""
    try:
        config = json.loads((folder / "generation_config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise EdgespecError(
            f"'{folder}' has no readable generation_config.json: {error}; make the pair again"
        ) from error
    found: set[int] = set()
    for value in (config.get("eos_token_id"), config.get("stop_token_ids")):
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(found)
