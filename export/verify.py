"""`export --verify`: the IR against PyTorch on probe prompts, in f32 arithmetic on both sides.

PyTorch's side keeps the stored weights mapped and turns those of one module at a time to f32 while it runs, so that the
reference is exact without four bytes a weight. OpenVINO's side is told to compute in f32 with nothing quantized on the
way. What is left is what the export changed: the weights' rounding to another type, and anything that is wrong.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.errors import EdgespecError

from .checkpoint import Checkpoint
from .loading import load_model

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
TEXTS = (
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return ",
    "The capital of France is Paris. The capital of Japan is Tokyo. The capital of",
    "Explain in two sentences why the sky is blue, and why sunsets are red.",
    "1, 1, 2, 3, 5, 8, 13, 21,",
)
_CUT = 5
"""Tokens of a probe that are fed one at a time after the rest, through the cache."""
WRONG = 0.5
"""Top-1 agreement below which the export is refused: rounding alone moves a few per cent of the tokens."""


@dataclass(frozen=True)
class Verified:
    """max_difference: the largest of any logit. relative: that over the largest logit. top1: share of positions with
    the same likeliest token. positions: how many were compared."""

    prompts: int
    positions: int
    max_difference: float
    relative: float
    top1: float


def compare_with_pytorch(checkpoint: Checkpoint, exported: Path, trust_remote_code: bool = False) -> Verified:
    """Run the texts through both. Raises EdgespecError when fewer than half of the likeliest tokens agree."""
    prompts = _prompts(checkpoint, exported)
    expected = torch_logits(checkpoint, prompts, trust_remote_code)
    got = ir_logits(exported / "openvino_model.xml", prompts)
    same = positions = 0
    difference = largest = 0.0
    for want, have in zip(expected, got, strict=True):
        if not np.isfinite(have).all():
            raise EdgespecError(
                f"the exported '{checkpoint.name}' computes NaN or infinity; export it with --dtype bf16"
            )
        same += int((want.argmax(-1) == have.argmax(-1)).sum())
        positions += len(want)
        difference = max(difference, float(np.abs(want - have).max()))
        largest = max(largest, float(np.abs(want).max()))
    found = Verified(len(prompts), positions, difference, difference / max(largest, 1e-30), same / positions)
    if found.top1 < WRONG:
        raise EdgespecError(
            f"the exported '{checkpoint.name}' does not compute what PyTorch does: only {found.top1:.0%} of the "
            f"likeliest tokens agree (largest difference {found.max_difference:.3g}); report it to optimum-intel"
        )
    return found


def torch_logits(
    checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], trust_remote_code: bool = False
) -> list[Any]:
    """f32 logits [tokens, rows of the embedding] of each prompt, by PyTorch."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(
            checkpoint, checkpoint.stored if checkpoint.stored in ("bf16", "fp16") else "fp32", trust_remote_code
        )
    with torch.no_grad(), _computing_in_f32(model):
        return [
            model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().numpy() for ids in prompts
        ]


def ir_logits(xml: Path, prompts: Sequence[Sequence[int]]) -> list[Any]:
    """The same by OpenVINO on the CPU: the prompt but for its last tokens in one pass, these one by one."""
    import openvino as ov

    request = ov.Core().compile_model(xml, "CPU", EXACT).create_infer_request()
    inputs = {name for port in request.model_inputs for name in port.names}
    logits = []
    for ids in prompts:
        request.reset_state()
        rows = []
        cut = max(1, len(ids) - _CUT)
        past = 0
        for chunk in [list(ids[:cut]), *([token] for token in ids[cut:])]:
            total = past + len(chunk)
            given = {
                "input_ids": np.array([chunk], dtype=np.int64),
                "attention_mask": np.ones((1, total), dtype=np.int64),
                "position_ids": np.arange(past, total, dtype=np.int64)[None],
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
            request.infer({name: value for name, value in given.items() if name in inputs})
            rows.append(request.get_tensor("logits").data[0].copy())
            past = total
        logits.append(np.concatenate(rows))
    return logits


def _prompts(checkpoint: Checkpoint, exported: Path) -> list[list[int]]:
    import openvino_genai

    tokenizer = openvino_genai.Tokenizer(str(exported))
    return [[int(token) for token in tokenizer.encode(text).input_ids.data.reshape(-1)] for text in TEXTS]


@contextlib.contextmanager
def _computing_in_f32(model: Any) -> Iterator[None]:
    """Every module with 16-bit parameters of its own has f32 copies of them while it runs; an embedding looks up first
    and widens what it found, which is the same and takes no copy."""
    import torch

    hooks = []

    def widen(module: Any, inputs: Any) -> None:
        module.__dict__["_stored"] = dict(module._parameters)
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_floating_point():
                module._parameters[name] = torch.nn.Parameter(weight.float(), requires_grad=False)

    def restore(module: Any, inputs: Any, output: Any) -> None:
        module._parameters.update(module.__dict__.pop("_stored"))

    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            hooks.append(module.register_forward_hook(lambda _, __, output: output.float()))
        elif any(weight is not None for weight in module._parameters.values()):
            hooks.append(module.register_forward_pre_hook(widen))
            hooks.append(module.register_forward_hook(restore))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
