"""A transformers causal LM behind the engine's own interface: a cache that can take tokens back, chains only.

So speculative decoding of a draft in training is the engine's loop, drafter and acceptance, with nothing written twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edgespec.engine.model import ModelSequence
from edgespec.errors import EdgespecError

CHUNK = 1024
"""Tokens of a prompt that one pass takes."""


class TorchModel:
    """See engine.model.Model."""

    way = "torch"

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.vocab_size = int(model.get_input_embeddings().weight.shape[0])

    def sequence(self) -> TorchSequence:
        return TorchSequence(self.model)


class TorchSequence(ModelSequence):
    """See ModelSequence. Logits are f32 copies on the CPU, wherever the model is."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = model
        self._open: list[int] = []
        self._start()

    def _start(self) -> None:
        from transformers import DynamicCache

        self._cache = DynamicCache()  # without a config its layers keep everything, sliding windows are left to masks

    @property
    def slots(self) -> int:
        return int(self._cache.get_seq_length())

    def chunk(self) -> int:
        return CHUNK

    def grow(
        self, ids: Sequence[int] | np.ndarray, parents: Sequence[int] | None = None, rows: int | None = None
    ) -> np.ndarray:
        if parents is not None:
            raise EdgespecError(
                "a PyTorch model verifies chains only here, and a tree was given; use the native engine"
            )
        if self._open:
            raise EdgespecError("a chain is open already; keep some of it first")
        self._open = [int(token) for token in ids]
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            logits = self._model(
                input_ids=torch.tensor([self._open], device=device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=len(self._open) if rows is None else rows,
            ).logits
        found: np.ndarray = logits[0].float().cpu().numpy()
        return found

    def keep(self, path: Sequence[int]) -> None:
        if list(path) != list(range(len(path))):
            raise EdgespecError(f"of a chain only a prefix can be kept, not nodes {list(path)}")
        self._tokens += self._open[: len(path)]
        self._open = []
        self._crop()

    def rollback(self, length: int) -> None:
        self._open = []
        del self._tokens[length:]
        self._crop()

    def _crop(self) -> None:
        if not self._tokens:
            self._start()
        elif self.slots > len(self._tokens):
            self._cache.crop(len(self._tokens))

    def reset(self) -> None:
        self.rollback(0)
