"""f32 or bf16: what this machine multiplies faster, found by trying."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

Precision = Literal["bf16", "f32"]
Wanted = Literal["auto", "bf16", "f32"]
_TYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


def autocast(device: str, precision: Precision) -> AbstractContextManager[Any]:
    """Matrix products in bf16 over f32 weights, or nothing."""
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def settle_precision(wanted: Wanted, accelerator: Accelerator) -> Precision:
    """`wanted`, or for "auto" the faster one here; every process gets the main one's answer.

    A CPU without bf16 units emulates them at a hundredth of its f32 rate, and flags do not say how fast: it is tried.
    """
    if wanted != "auto":
        return wanted
    device = accelerator.device
    faster = matmul_rate(device, "bf16", seconds=0.1) > matmul_rate(device, "f32", seconds=0.1)
    chosen: list[Precision] = ["bf16" if faster else "f32"]
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
    return chosen[0]


def matmul_rate(device: torch.device, precision: Precision, *, size: int = 512, seconds: float = 1.0) -> float:
    """FLOP/s of a [4 size, size] by [size, size] product, the best of those that fit into `seconds`."""
    kind = _TYPES[precision]
    left = torch.randn(4 * size, size, device=device).to(kind)
    right = torch.randn(size, size, device=device).to(kind)
    best, ends = float("inf"), time.perf_counter() + seconds
    (left @ right).sum().item()
    while True:
        began = time.perf_counter()
        for _ in range(4):
            product = left @ right
        product[0, 0].item()  # waits for the device
        now = time.perf_counter()
        best = min(best, (now - began) / 4)
        if now > ends:
            return 2 * 4 * size**3 / best
