"""The native engine: target and drafter over plain OpenVINO, with exact acceptance. Any drafter, chains and trees,
greedy or sampled; what it emits follows the target's distribution. The loop itself is loop.py's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..devices import require_device
from ..errors import EdgespecError
from ..pair import Pair
from ..sampling import GREEDY, Sampling
from ..signals import keeping_signal_stack
from .drafters import DRAFTERS
from .drafters.making import Place, Request
from .genai import require_draft
from .loop import speculate
from .model import Interrupted, ModelSequence, open_model
from .processors import Constraint, Processor
from .proposal import Drafter
from .reading import HasTokenizer
from .step import Generation, OnTokens, Step, cut
from .stopping import Ending


class NativeEngine(HasTokenizer):
    """A pair on a device with one drafter. Not for concurrent calls: one `generate` at a time.

    stop_ids: tokens that end a text whatever a request says."""

    name = "native"

    @keeping_signal_stack()
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
        self.stop_ids = stop_ids(pair.target)

    def watch_drafter(self, wrap: Callable[[Drafter], Drafter]) -> None:
        """From now on each request's drafter is what `wrap` makes of it: to see what it proposes and what becomes of
        it, or to silence it."""
        make = self._drafter_for
        self._drafter_for = lambda request: wrap(make(request))

    def timing_sequence(self) -> ModelSequence:
        """Another, empty sequence on the compiled target: passes can be timed on it without a second copy of the
        weights, between `generate`s or between the steps of one, in its thread."""
        return self._target.sequence()

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
        cancelled: Callable[[], bool] | None = None,
        answered: int = 0,
    ) -> Generation:
        """Decode up to `max_new_tokens` tokens after `prompt_ids`, ending at the end of text.

        gamma: tokens proposed a step at most. reuse_prefix: keep what the caches hold of this prompt from the last
        call, as a chat does; a measurement of the prompt's pass does not. constraint: forbids tokens, a grammar for
        one (`vocab_size` and `stop_ids` are what it needs to know). cancelled: asked between the chunks of a long
        prompt, where there are no tokens to tell `on_tokens` of yet; True ends the generation. answered: how many ids
        at the end of `prompt_ids` belong to the answer already, which penalties and grammars count. Raises
        EdgespecError for an empty prompt, EngineFailed when a pass fails. An exception raised by `on_tokens` stops the
        generation and is raised here; the engine survives it.
        """
        if not prompt_ids:
            raise EdgespecError("the prompt is empty; give at least one token to continue from")
        if not 1 <= max_new_tokens < 2**31:
            raise EdgespecError(f"max_new_tokens must be at least 1, and below 2^31, not {max_new_tokens}")
        gamma = self._gamma(gamma)
        own = len(prompt_ids) - answered
        processor = Processor(sampling, self.vocab_size, prompt_length=own, constraint=constraint)
        rng = np.random.default_rng(sampling.seed)
        request = Request(processor, rng, reuse_prefix and self._caches_are_sound, cancelled)
        self._sequence.interrupted = cancelled
        self._drafter = self._drafter_for(request)
        ending = Ending(self.stop_ids | set(sampling.stop_token_ids), sampling.stop_strings, self.decode)
        token_ids: list[int] = []
        steps: list[Step] = []
        first_s: float | None = None
        told_to_end = False
        started = time.perf_counter()
        try:
            for step in speculate(self._sequence, self._drafter, request, prompt_ids, max_new_tokens, gamma):
                first_s = first_s or time.perf_counter()
                steps.append(step)
                certain = ending.take(step.tokens)
                token_ids += certain
                if on_tokens is not None and certain:
                    told_to_end = on_tokens(certain)
                if ending.reached or told_to_end:
                    break
            if not ending.reached and (held := ending.rest()):
                token_ids += held
                if on_tokens is not None and not told_to_end:
                    on_tokens(held)
        except Interrupted:  # between two chunks, where all that a cache holds is known
            pass
        except BaseException:  # it may have come between a pass and the count of what it left in a cache
            self._caches_are_sound = False
            raise
        self._caches_are_sound = True
        ended = time.perf_counter()
        return Generation(
            token_ids=token_ids,
            steps=cut(steps, len(token_ids)),
            finish_reason="stop" if ending.reached else "length",
            ttft_s=(first_s or ended) - started,
            wall_s=ended - started,
        )

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


def _require_native(device: str) -> str:
    device = require_device(device)
    if device.startswith("NPU"):
        raise EdgespecError(
            "an NPU runs models of fixed shape only, which the native engine does not drive; use the genai engine, or "
            "device CPU or GPU"
        )
    return device


def stop_ids(folder: Path) -> frozenset[int]:
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
