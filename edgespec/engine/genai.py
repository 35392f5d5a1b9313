"""The genai engine: openvino_genai.LLMPipeline behind `Generation` and `Step`, with our own clock and counts.

openvino-genai's counters drop the last step, do not add up and never reset on the NPU path, so only one of its lists
is used: tokens emitted per target pass (`m_batch_sizes`, batch 1), which is exact on CPU and GPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..devices import require_device, require_mode
from ..errors import EdgespecError, EngineFailed, last_line
from ..pair import Pair
from ..sampling import GREEDY, Sampling
from ..signals import keeping_signal_stack
from .reading import HasTokenizer
from .step import Generation, OnTokens, Step
from .stopping import Ending

Mode = Literal["plain", "draft", "lookup", "eagle3"]
_DRAFTED = ("draft", "eagle3")
"""Modes in which the pair's draft is loaded."""

DEFAULT_GAMMA = 3
LOOKUP_GAMMA = 5
LOOKUP_NGRAM = 3
"""Tokens of the longest n-gram that prompt lookup searches for."""


class GenaiEngine(HasTokenizer):
    """One pipeline in one mode on one device. Not for concurrent calls: one `generate` at a time.

    stop_ids: tokens that end a text whatever a request says."""

    name = "genai"

    @keeping_signal_stack()
    def __init__(
        self,
        pair: Pair,
        *,
        device: str,
        draft_device: str | None = None,
        mode: Mode = "plain",
        settings: Mapping[str, Any] | None = None,
        draft_settings: Mapping[str, Any] | None = None,
        prefix_caching: bool = False,
    ) -> None:
        """Load and compile. draft_settings: of a draft on a device that takes other properties; None: the same.
        prefix_caching: a prompt that begins as an earlier text did is read from there on, in whole blocks of the cache
        (not on an NPU, which reads every prompt anew); a measurement of the prompt's pass wants it off. Raises
        EdgespecError when the pair, the device and the mode do not go together."""
        import openvino_genai

        self.device = require_device(device)
        self.mode: Mode = mode
        require_mode(self.device, mode)
        if draft_device and mode not in _DRAFTED:
            raise EdgespecError(f"a draft device was given for mode '{mode}', which uses no draft; leave it out")
        if mode in _DRAFTED:
            require_draft(pair, mode)
        properties = dict(settings or {})
        where = require_device(draft_device) if draft_device else self.device
        self._on_npu = self.device.startswith("NPU") or (mode in _DRAFTED and where.startswith("NPU"))
        if not self._on_npu:
            scheduler = openvino_genai.SchedulerConfig()
            scheduler.enable_prefix_caching = prefix_caching
            scheduler.max_num_batched_tokens = 4096
            properties["scheduler_config"] = scheduler
        if mode == "lookup":
            properties["prompt_lookup"] = True
        try:
            if mode in _DRAFTED and pair.draft is not None:
                own = dict((settings if draft_settings is None else draft_settings) or {})
                properties["draft_model"] = openvino_genai.draft_model(str(pair.draft), where, **own)
            self._pipeline = openvino_genai.LLMPipeline(str(pair.loadable_target), self.device, **properties)
        except RuntimeError as error:
            raise EdgespecError(
                f"openvino-genai could not load '{pair.root}' on {self.device} in mode '{mode}': {last_line(error)}"
            ) from error
        self._tokenizer = self._pipeline.get_tokenizer()
        own = self._pipeline.get_generation_config()
        self._end, self.stop_ids = self.ends(pair.target, own)

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        *,
        gamma: int | None = None,
        threshold: float | None = None,
        sampling: Sampling = GREEDY,
        on_tokens: OnTokens | None = None,
    ) -> Generation:
        """Decode up to `max_new_tokens` tokens after `prompt_ids`, ending at the end of text.

        gamma: tokens proposed a step (draft: 3, lookup: 5 unless given). threshold: instead of a gamma, the draft goes
        on proposing while its own confidence is above it; how much it proposed is then not told. Raises EdgespecError
        for an empty prompt, and for sampling with a draft, whose output would not follow the target's distribution
        (openvino.genai#4190); EngineFailed when the pipeline breaks down. Stop strings are looked for here, as in the
        native engine, so that what may be the beginning of one is held back (stopping.py). `on_tokens` is not called
        while a prompt is read: nothing ends that pass early.
        An exception raised by `on_tokens` stops the generation and is raised here.
        """
        import openvino
        import openvino_genai

        if not prompt_ids:
            raise EdgespecError("the prompt is empty; give at least one token to continue from")
        if threshold is not None and (self.mode != "draft" or gamma is not None or self._on_npu):
            raise EdgespecError(
                "a threshold is for mode 'draft' on CPU or GPU, instead of a gamma; leave one of them out"
            )
        gamma = 0 if threshold is not None else self._gamma(gamma)
        config = self._config(max_new_tokens, gamma, sampling)
        if threshold is not None:
            config.assistant_confidence_threshold = threshold
        ending = Ending(frozenset(), sampling.stop_strings, self.decode) if sampling.stop_strings else None
        watch = _Watch(openvino_genai.StreamingStatus, on_tokens, ending)
        tensor = openvino.Tensor(np.asarray([prompt_ids], dtype=np.int64))
        watch.started = time.perf_counter()
        try:
            result = self._pipeline.generate(tensor, config, watch.streamer(openvino_genai.StreamerBase))
        except RuntimeError as error:
            raise EngineFailed(f"openvino-genai failed on {self.device}: {last_line(error)}") from error
        watch.finish()
        wall_s = time.perf_counter() - watch.started
        if watch.error is not None:
            raise watch.error
        tokens = [int(token) for token in result.tokens[0]]
        stopped = "STOP" in str(result.finish_reasons[0])
        if ending is not None:  # what came behind a stop string, or was told too late, is not the answer
            stopped, tokens = stopped or ending.reached, watch.certain
        emitted = [] if self._on_npu else list(result.perf_metrics.raw_metrics.m_batch_sizes)
        if sum(emitted) != len(tokens):  # ended early; or another release counts otherwise. The streamer saw every step
            emitted = watch.sizes
        return Generation(
            token_ids=tokens,
            steps=self._steps(tokens, _within(emitted, len(tokens)), gamma or None, max_new_tokens, stopped),
            finish_reason="stop" if stopped else "length",
            ttft_s=(watch.first or time.perf_counter()) - watch.started,
            wall_s=wall_s,
        )

    def _gamma(self, gamma: int | None) -> int:
        if self.mode == "plain":
            return 0
        gamma = gamma if gamma is not None else (DEFAULT_GAMMA if self.mode in _DRAFTED else LOOKUP_GAMMA)
        if gamma < 1:
            raise EdgespecError(f"gamma must be at least 1 in mode '{self.mode}', not {gamma}; use mode 'plain' for 0")
        return gamma

    def _config(self, max_new_tokens: int, gamma: int, sampling: Sampling) -> Any:
        import openvino_genai

        if not 1 <= max_new_tokens < 2**31:
            raise EdgespecError(f"max_new_tokens must be at least 1, and below 2^31, not {max_new_tokens}")
        if self.mode in _DRAFTED and not sampling.greedy:
            raise EdgespecError(
                f"openvino-genai's mode '{self.mode}' does not follow the target's distribution at temperature above 0 "
                "(openvino.genai#4190), so it is not used there; take temperature 0, or mode plain or lookup"
            )
        config = openvino_genai.GenerationConfig()
        config.eos_token_id = self._end
        config.stop_token_ids = set(self.stop_ids)
        config.max_new_tokens = max_new_tokens
        replace(sampling, stop_strings=()).apply(config)
        if gamma:
            config.num_assistant_tokens = gamma
        if self.mode == "lookup":
            config.max_ngram_size = LOOKUP_NGRAM
        return config

    def _steps(
        self, tokens: list[int], sizes: Sequence[int], gamma: int | None, max_new_tokens: int, stopped: bool
    ) -> list[Step]:
        """Cut `tokens` by target pass. Near the length limit a draft proposes no more than can still be emitted; what
        it proposed in a pass that ended the text, and what lookup found to propose, is not known."""
        steps: list[Step] = []
        start = 0
        for index, size in enumerate(sizes):
            chunk = tuple(tokens[start : start + size])
            if index == 0 or self.mode == "plain":
                steps.append(Step(chunk, 0, 0))
            else:
                ended = stopped and index == len(sizes) - 1
                known = self.mode in _DRAFTED and gamma and not ended
                proposed = min(gamma, max_new_tokens - start - 1) if known and gamma else None
                steps.append(Step(chunk, proposed, max(0, len(chunk) - 1)))
            start += size
        return steps

    def close(self) -> None:
        """Free the models. The engine cannot be used afterwards."""
        self.__dict__.pop("_tokenizer", None)
        self.__dict__.pop("_pipeline", None)


def require_draft(pair: Pair, mode: str) -> None:
    """Refuse a mode for which the pair has no draft, or one of another kind: an EAGLE-3 head reads the target's hidden
    states and cannot run as a model of its own; any other draft cannot run as a head."""
    record = pair.manifest.draft
    if record is None:
        raise EdgespecError(f"mode '{mode}' needs a draft and the pair '{pair.root}' has none; use plain or lookup")
    if mode == "eagle3" and record.kind != "eagle3":
        raise EdgespecError(
            f"mode 'eagle3' needs an EAGLE-3 head and the draft of '{pair.root}' is none; use mode draft"
        )
    if mode != "eagle3" and record.kind == "eagle3":
        raise EdgespecError(
            f"the draft of '{pair.root}' is an EAGLE-3 head, which reads the target's hidden states and so is no draft "
            f"for mode '{mode}'; use mode eagle3"
        )


def open_engine(
    pair: Pair,
    *,
    device: str,
    draft_device: str | None = None,
    mode: Mode = "plain",
    settings: Mapping[str, Any] | None = None,
) -> GenaiEngine:
    """The engine that runs `mode` on `device`."""
    return GenaiEngine(pair, device=device, draft_device=draft_device, mode=mode, settings=settings)


class _Watch:
    """Our clock, the stop strings and the caller's callback inside genai's streamer, whose exceptions would abort the
    process. certain: with stop strings, the tokens that belong to the answer."""

    def __init__(self, status: Any, on_tokens: OnTokens | None, ending: Ending | None) -> None:
        self._status = status
        self._on_tokens = on_tokens
        self._ending = ending
        self._ended = False
        self.certain: list[int] = []
        self.started = 0.0
        self.first: float | None = None
        self.sizes: list[int] = []
        self.error: BaseException | None = None

    def write(self, tokens: int | Sequence[int]) -> Any:
        if self.first is None:
            self.first = time.perf_counter()
        chunk = [tokens] if isinstance(tokens, int) else list(tokens)
        self.sizes.append(len(chunk))
        if not self._ended:
            self._ended = self._take(chunk)
        return self._status.CANCEL if self._ended else self._status.RUNNING

    def _take(self, chunk: list[int]) -> bool:
        """Whether the answer ends with this chunk."""
        try:
            if self._ending is None:
                return self._on_tokens is not None and self._on_tokens(chunk)
            return self._tell(self._ending.take(chunk)) or self._ending.reached
        except BaseException as error:
            self.error = error
            return True

    def _tell(self, certain: list[int]) -> bool:
        self.certain += certain
        return bool(certain) and self._on_tokens is not None and self._on_tokens(certain)

    def finish(self) -> None:
        """Nothing more comes: what was held back belongs to the answer, unless a stop string or the caller ended it."""
        if self._ending is not None and not self._ended:
            try:
                self._tell(self._ending.rest())
            except BaseException as error:
                self.error = error

    def streamer(self, base: type) -> Any:
        watch = self

        class Streamer(base):  # type: ignore[misc]
            def write(self, token: int | Sequence[int]) -> Any:
                return watch.write(token)

            def end(self) -> None:
                pass

        return Streamer()


def _within(sizes: Sequence[int], tokens: int) -> list[int]:
    """The first of `sizes`, cut where their sum reaches `tokens`."""
    kept: list[int] = []
    for size in sizes:
        if tokens <= 0:
            break
        kept.append(min(size, tokens))
        tokens -= size
    return kept
