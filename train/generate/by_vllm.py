"""The target through vLLM, where it is installed: a server's GPUs. The adapter only translates."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from edgespec.errors import EdgespecError

from .request import Answer, Request


class VllmWriter:
    """See Writer. vLLM schedules on its own, so a call should bring many requests; each has its own seed, which gives
    the same draws again but not bitwise the same logits in another batch."""

    name = "vllm"
    seeded = False

    def __init__(self, target: str, *, concurrent: int = 1024, dtype: str = "auto") -> None:
        """target: a folder or hub id. Raises EdgespecError when vLLM is not installed."""
        try:
            self._vllm = importlib.import_module("vllm")
        except ModuleNotFoundError as error:
            raise EdgespecError(
                "the engine vllm needs the package 'vllm', which is not installed here; install it where its GPUs "
                "are, or use the engine openvino or transformers"
            ) from error
        self.concurrent = concurrent
        self._model = self._vllm.LLM(model=target, dtype=dtype)

    def write(self, requests: Sequence[Request]) -> list[Answer]:
        parameters = [
            self._vllm.SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p if request.temperature > 0 else 1.0,
                seed=request.seed,
                max_tokens=request.max_new_tokens,
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        outputs = self._model.generate(prompts, parameters, use_tqdm=False)
        answers = []
        for output in outputs:
            first = output.outputs[0]
            answers.append(
                Answer([int(token) for token in first.token_ids], "stop" if first.finish_reason == "stop" else "length")
            )
        return answers

    def close(self) -> None:
        self.__dict__.pop("_model", None)
