"""How an arm is made to speak for `verify`: greedily, prompt by prompt, and by many short samples of one context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from edgespec.engine.step import Generation
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.sampling import GREEDY, Sampling
from edgespec.signals import keeping_signal_stack

BATCH = 128
"""Requests that openvino-genai is given at once."""
LOOKUP_NGRAM = 3
GENAI_GAMMAS = {"plain": 0, "draft": 3, "lookup": 5}


class Speaker(Protocol):
    """One loaded arm. proposed, accepted: tokens drafted and kept in what was sampled so far; None where the back end
    does not tell."""

    proposed: int | None
    accepted: int | None

    def greedy(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]: ...

    def sample(
        self, context: Sequence[int], tokens: int, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[Sequence[int]]:
        """One answer a seed, of at least `tokens` tokens unless the text ends."""

    def close(self) -> None: ...


class _Engine(Protocol):
    def generate(self, *args: Any, **options: Any) -> Generation: ...

    def close(self) -> None: ...


class EngineSpeaker:
    """An engine as an app uses it, one request after another."""

    def __init__(self, engine: _Engine, gamma: int | None, *, room: int = 0, reuse_prefix: bool = False) -> None:
        """room: tokens asked for beyond those that are compared, so that proposals are not cut short by the limit of
        length. reuse_prefix: samples keep the cache of their context, as turns of a chat do, which saves its pass."""
        self._engine, self._gamma, self._room = engine, gamma, room
        self._options: dict[str, Any] = {"reuse_prefix": True} if reuse_prefix else {}
        self.proposed: int | None = 0
        self.accepted: int | None = 0

    def greedy(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]:
        return self._engine.generate(prompt_ids, max_new_tokens, gamma=self._gamma).token_ids

    def sample(
        self, context: Sequence[int], tokens: int, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[Sequence[int]]:
        for seed in seeds:
            drawn = replace(sampling, seed=int(seed))
            answer = self._engine.generate(
                context, tokens + self._room, gamma=self._gamma, sampling=drawn, **self._options
            )
            for step in answer.steps[1:]:
                self.proposed = _plus(self.proposed, step.proposed)
                self.accepted = _plus(self.accepted, step.accepted)
            yield answer.token_ids

    def close(self) -> None:
        self._engine.close()


class BatchSpeaker:
    """openvino-genai's continuous batching: many requests at once, each with its own seed.

    It also does what `GenaiEngine` refuses because it is wrong, sampling with a draft, so that the refusal can be
    shown to be right (openvino.genai#4190).
    """

    @keeping_signal_stack()
    def __init__(
        self,
        pair: Pair,
        mode: str,
        device: str,
        draft_device: str | None,
        settings: Mapping[str, Any],
        gamma: int | None = None,
        *,
        prefix_cache: bool = True,
    ) -> None:
        """prefix_cache: compute a context once that many requests share, as openvino-genai does unless told."""
        import openvino
        import openvino_genai

        self._genai, self._tensor = openvino_genai, openvino.Tensor
        scheduler = openvino_genai.SchedulerConfig()
        # sampling with a draft and this cache ends in an exception (openvino.genai#4190)
        scheduler.enable_prefix_caching = prefix_cache and mode != "draft"
        scheduler.max_num_batched_tokens = 4096
        scheduler.max_num_seqs = BATCH
        properties: dict[str, Any] = dict(settings)
        if mode == "draft":
            if pair.draft is None:
                raise EdgespecError(f"the pair '{pair.root}' has no draft to sample with")
            properties["draft_model"] = openvino_genai.draft_model(
                str(pair.draft), draft_device or device, **dict(settings)
            )
        elif mode == "lookup":
            properties["prompt_lookup"] = True
        self._mode = mode
        self._gamma = gamma if gamma and mode != "plain" else GENAI_GAMMAS[mode]
        self.proposed: int | None = None
        self.accepted: int | None = None
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(pair.target), scheduler, device, properties)
        except RuntimeError as error:
            raise EdgespecError(f"openvino-genai could not load '{pair.root}' in mode '{mode}': {error}") from error

    def greedy(self, prompt_ids: Sequence[int], max_new_tokens: int) -> list[int]:
        return self.together([prompt_ids], max_new_tokens)[0]

    def together(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
        """Greedy answers to all prompts, computed in one batch: the same words from other roundings."""
        return self._answers([(prompt, GREEDY) for prompt in prompts], max_new_tokens)

    def sample(
        self, context: Sequence[int], tokens: int, sampling: Sampling, seeds: Sequence[int]
    ) -> Iterator[Sequence[int]]:
        room = self._gamma  # no proposal is cut short by the limit of length
        first, rest = list(seeds[:1]), list(seeds[1:])  # the first fills the prefix cache
        for chunk in (first, *(rest[i : i + BATCH] for i in range(0, len(rest), BATCH))):
            requests = [(context, replace(sampling, seed=int(seed))) for seed in chunk]
            yield from self._answers(requests, tokens + room)

    def close(self) -> None:
        self.__dict__.pop("_pipeline", None)

    def _answers(self, requests: Sequence[tuple[Sequence[int], Sampling]], max_new_tokens: int) -> list[list[int]]:
        tensors = [self._tensor(np.asarray([ids], np.int64)) for ids, _ in requests]
        configs = [self._config(sampling, max_new_tokens) for _, sampling in requests]
        try:
            results = self._pipeline.generate(tensors, configs)
        except RuntimeError as error:
            raise EdgespecError(f"openvino-genai failed in mode '{self._mode}': {error}") from error
        return [[int(token) for token in result.m_generation_ids[0]] for result in results]

    def _config(self, sampling: Sampling, max_new_tokens: int) -> Any:
        config = self._genai.GenerationConfig()
        own = self._pipeline.get_config()
        config.eos_token_id, config.stop_token_ids = own.eos_token_id, own.stop_token_ids
        config.max_new_tokens = max_new_tokens
        sampling.apply(config)
        if self._gamma:
            config.num_assistant_tokens = self._gamma
        if self._mode == "lookup":
            config.max_ngram_size = LOOKUP_NGRAM
        return config


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
