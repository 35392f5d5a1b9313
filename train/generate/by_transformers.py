"""The target as a checkpoint, through transformers: on a GPU, or where no OpenVINO model of it was made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from .request import Answer, Request


class TransformersWriter:
    """See Writer. Requests of one temperature, top-p and length run as one batch, padded on the left."""

    name = "transformers"
    seeded = True

    def __init__(self, target: str, *, device: str | None = None, concurrent: int = 16, dtype: Any = "auto") -> None:
        """target: a folder or hub id. device: a torch device; None takes an accelerator where there is one."""
        from ..models import load_model

        if device is None:
            device = str(torch.accelerator.current_accelerator() or "cpu")
        self.concurrent = concurrent
        self._model = load_model(target, dtype=dtype).to(device).eval()
        ends = self._model.generation_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        pad = self._model.generation_config.pad_token_id
        self._pad = pad if pad is not None else min(self._ends, default=0)

    def write(self, requests: Sequence[Request]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        numbered = sorted(enumerate(requests), key=lambda pair: (*_kind(pair[1]), pair[0]))
        for (temperature, top_p, length), group in groupby(numbered, key=lambda pair: _kind(pair[1])):
            batch = list(group)
            for place, answer in zip(
                (place for place, _ in batch),
                self._batch([request for _, request in batch], temperature, top_p, length),
                strict=True,
            ):
                answers[place] = answer
        return [answers[place] for place in range(len(requests))]

    def _batch(self, requests: list[Request], temperature: float, top_p: float, length: int) -> list[Answer]:
        longest = max(len(request.prompt_ids) for request in requests)
        ids = torch.full((len(requests), longest), self._pad)
        mask = torch.zeros_like(ids)
        for row, request in enumerate(requests):
            ids[row, longest - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, longest - len(request.prompt_ids) :] = 1
        chosen: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if temperature > 0:
            chosen = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(requests[0].seed)
            out = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=length,
                pad_token_id=self._pad,
                **chosen,
            )
        return [self._cut(row[longest:].tolist(), length) for row in out]

    def _cut(self, ids: list[int], length: int) -> Answer:
        for place, token in enumerate(ids):
            if token in self._ends:
                return Answer(ids[: place + 1], "stop")
        return Answer(ids, "length")

    def close(self) -> None:
        self.__dict__.pop("_model", None)


def _kind(request: Request) -> tuple[float, float, int]:
    return request.temperature, request.top_p, request.max_new_tokens
