"""The target as an OpenVINO model, by openvino-genai's continuous batching: a laptop makes its own alignment set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.devices import require_device
from edgespec.errors import EdgespecError, last_line
from edgespec.signals import keeping_signal_stack

from .request import Answer, Request


class OpenVinoWriter:
    """See Writer. A call's answers are reproducible: its draws start from the first request's seed, and prefixes are
    not cached from call to call."""

    name = "openvino"
    seeded = True

    @keeping_signal_stack()
    def __init__(
        self,
        target: Path,
        *,
        device: str = "CPU",
        concurrent: int = 32,
        cache_gb: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """target: a directory openvino-genai loads. cache_gb: of the KV cache; None lets it grow as needed. settings:
        OpenVINO properties.

        Raises EdgespecError when it does not load.
        """
        import openvino_genai

        self.concurrent = concurrent
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = False
        scheduler.max_num_seqs = concurrent
        scheduler.max_num_batched_tokens = 2048
        if cache_gb is not None:
            scheduler.cache_size = cache_gb
        try:
            self._pipeline = openvino_genai.ContinuousBatchingPipeline(
                str(target), scheduler, require_device(device), dict(settings or {})
            )
        except RuntimeError as error:
            raise EdgespecError(f"the target '{target}' could not be loaded on {device}: {last_line(error)}") from error

    def write(self, requests: Sequence[Request]) -> list[Answer]:
        import openvino
        import openvino_genai

        configs = []
        for request in requests:
            config = openvino_genai.GenerationConfig()
            config.set_eos_token_id(self._pipeline.get_config().eos_token_id)
            config.stop_token_ids = self._pipeline.get_config().stop_token_ids
            config.max_new_tokens = request.max_new_tokens
            config.do_sample = request.temperature > 0
            if request.temperature > 0:
                config.temperature = request.temperature
                config.top_p = request.top_p
                config.rng_seed = request.seed
            configs.append(config)
        tensors = [openvino.Tensor(np.asarray([request.prompt_ids], dtype=np.int64)) for request in requests]
        answers = []
        for request, result in zip(requests, self._pipeline.generate(tensors, configs), strict=True):
            ids = [int(token) for token in result.m_generation_ids[0]]
            answers.append(Answer(ids, "length" if len(ids) >= request.max_new_tokens else "stop"))
        return answers

    def close(self) -> None:
        self.__dict__.pop("_pipeline", None)
