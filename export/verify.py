"""`export --verify`: the IR against PyTorch on probe prompts, in f32 arithmetic on both sides.

PyTorch's side keeps the stored weights mapped and turns those of one module at a time to the exported type, and that
to f32, while it runs, so that the reference is exact without four bytes a weight. OpenVINO's side is told to compute in
f32 with nothing quantized on the way. What is left is what the export changed, and for that there are bounds.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgespec.errors import EdgespecError
from edgespec.settings import EXACT
from edgespec.signals import keeping_signal_stack

from .checkpoint import Checkpoint
from .loading import TORCH, load_model

TEXTS = (
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return ",
    "The capital of France is Paris. The capital of Japan is Tokyo. The capital of",
    "Explain in two sentences why the sky is blue, and why sunsets are red.",
    "1, 1, 2, 3, 5, 8, 13, 21,",
)
_CUT = 5
"""Tokens of a probe that are fed one at a time after the rest, through the cache."""


@dataclass(frozen=True)
class Bound:
    """Beyond it an export is refused. relative: the largest difference of any logit over the largest logit. top1: the
    least share of positions whose likeliest token is the same. why: what alone may differ, and so how much."""

    relative: float
    top1: float
    why: str


BOUNDS: Mapping[str, Bound] = {
    "fp32": Bound(
        2**-11, 0.98, "only the order of f32 additions differs, less than one constant rounded to half would"
    ),
    "fp16": Bound(2**-6, 0.95, "constants of the code, such as rotary frequencies, are rounded to 11 bits"),
    "bf16": Bound(2**-5, 0.95, "constants of the code, such as rotary frequencies, are rounded to 8 bits"),
    "8 bits": Bound(0.2, 0.8, "each weight is rounded to one of 256 values, which moves logits by some per cent"),
    "4 bits": Bound(0.7, 0.3, "each weight is rounded to one of 16 values; two unrelated models differ by twice this"),
}
"""By how the IR stores its weights. PyTorch has the weights of the same type: what rounding them to fp16 or bf16 does
is the choice of --dtype and no error of the export; what rounding to 8 or 4 bits does is the whole difference, and is
measured as such by `edgespec quantize`. These bounds tell a wrong model from a rounded one."""


@dataclass(frozen=True)
class Verified:
    """max_difference: the largest of any logit. relative: that over the largest logit. top1: share of positions with
    the same likeliest token. positions: how many were compared. precision, bound: how the weights are stored, and the
    largest `relative` that passes."""

    prompts: int
    positions: int
    max_difference: float
    relative: float
    top1: float
    precision: str
    bound: float


@dataclass(frozen=True)
class Reference:
    """What PyTorch computes for the model `name`: f32 logits [tokens, rows of the embedding] of each prompt."""

    name: str
    prompts: Sequence[Sequence[int]]
    logits: Sequence[Any]


def reference_of(checkpoint: Checkpoint, exported: Path, dtype: str, trust_remote_code: bool = False) -> Reference:
    """Run the texts, as the tokenizer in `exported` splits them, through PyTorch with weights of `dtype`."""
    prompts = _prompts(exported)
    logits = torch_logits(checkpoint, prompts, dtype, trust_remote_code)
    gc.collect()  # the model refers to itself, and Windows counts the files that it maps until it is gone
    return Reference(checkpoint.name, prompts, logits)


def hold(reference: Reference, folder: Path, precision: str) -> Verified:
    """Run the prompts through the IR in `folder`, whose weights are stored as `precision` says (ModelRecord.precision).

    Raises EdgespecError with the figures and the bound when it computes something else than PyTorch.
    """
    kind, bound = bound_of(precision)
    got = ir_logits(folder / "openvino_model.xml", reference.prompts)
    same = positions = 0
    difference = largest = 0.0
    for want, have in zip(reference.logits, got, strict=True):
        if not np.isfinite(have).all():
            raise EdgespecError(
                f"the exported '{reference.name}' computes NaN or infinity; export it with --dtype bf16"
            )
        same += int((want.argmax(-1) == have.argmax(-1)).sum())
        positions += len(want)
        difference = max(difference, float(np.abs(want - have).max()))
        largest = max(largest, float(np.abs(want).max()))
    relative, top1 = difference / max(largest, 1e-30), same / positions
    if relative > bound.relative or top1 < bound.top1:
        raise EdgespecError(
            f"the exported '{reference.name}' ({precision}) does not compute what PyTorch does: logits differ by up to "
            f"{difference:.3g}, {relative:.2%} of the largest, where {bound.relative:.2%} is allowed, and {top1:.0%} "
            f"of the likeliest tokens agree, where {bound.top1:.0%} must ({kind}: {bound.why}); nothing was kept, "
            f"report it to {'nncf, or choose another format' if kind.endswith('bits') else 'optimum-intel'}"
        )
    return Verified(len(reference.prompts), positions, difference, relative, top1, precision, bound.relative)


def bound_of(precision: str) -> tuple[str, Bound]:
    """The bound for weights stored so, and its name; by the digits in the name of a compressed format."""
    if precision in BOUNDS:
        return precision, BOUNDS[precision]
    kind = "8 bits" if "8" in precision.split("_g")[0] else "4 bits"
    return kind, BOUNDS[kind]


def torch_logits(
    checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], dtype: str | None = None, trust_remote_code: bool = False
) -> list[Any]:
    """f32 logits [tokens, rows of the embedding] of each prompt, by PyTorch; weights rounded to `dtype` if given."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(
            checkpoint, checkpoint.stored if checkpoint.stored in ("bf16", "fp16") else "fp32", trust_remote_code
        )
    with torch.no_grad(), _computing_in_f32(model, getattr(torch, TORCH[dtype]) if dtype else torch.float32):
        return [
            model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().numpy() for ids in prompts
        ]


@keeping_signal_stack()
def ir_logits(xml: Path, prompts: Sequence[Sequence[int]]) -> list[Any]:
    """The same by OpenVINO on the CPU: the prompt but for its last tokens in one pass, these one by one."""
    import openvino as ov

    request = ov.Core().compile_model(xml, "CPU", dict(EXACT)).create_infer_request()
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


@keeping_signal_stack()
def _prompts(exported: Path) -> list[list[int]]:
    import openvino_genai

    tokenizer = openvino_genai.Tokenizer(str(exported))
    return [[int(token) for token in tokenizer.encode(text).input_ids.data.reshape(-1)] for text in TEXTS]


@contextlib.contextmanager
def _computing_in_f32(model: Any, rounded: Any) -> Iterator[None]:
    """Every module with parameters of its own has f32 copies of them while it runs, rounded to the torch type `rounded`
    on the way; an embedding looks up first and widens what it found, which is the same and takes no copy."""
    import torch

    hooks = []

    def widen(module: Any, inputs: Any) -> None:
        module.__dict__["_stored"] = dict(module._parameters)
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_floating_point():
                module._parameters[name] = torch.nn.Parameter(weight.to(rounded).float(), requires_grad=False)

    def restore(module: Any, inputs: Any, output: Any) -> None:
        module._parameters.update(module.__dict__.pop("_stored"))

    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            hooks.append(module.register_forward_hook(lambda _, __, output: output.to(rounded).float()))
        elif any(weight is not None for weight in module._parameters.values()):
            hooks.append(module.register_forward_pre_hook(widen))
            hooks.append(module.register_forward_hook(restore))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
