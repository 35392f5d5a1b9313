"""Which plugin settings are worth a try on a device: one step after the other, each around the best of the last.

All of them together would be hundreds; one kind at a time is about ten, and the kinds hardly interact: how activations
are rounded, how the KV cache is, and on how many and which cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Properties = dict[str, Any]

HINT = "INFERENCE_PRECISION_HINT"
GROUP = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
KV = "KV_CACHE_PRECISION"
THREADS = "INFERENCE_NUM_THREADS"
CORES = "SCHEDULING_CORE_TYPE"
HYPER = "ENABLE_HYPER_THREADING"
ON_THE_CPU_ONLY = (THREADS, CORES, HYPER)
AS_COMPUTED = "as computed"
"""Stands for the precision that a model computes in: a KV cache that is not compressed has to be of the same one."""
SAME_NUMBERS = frozenset({THREADS, CORES, HYPER})
"""Properties that only say where the work is done: they need no score for quality of their own."""


@dataclass(frozen=True)
class DeviceFacts:
    """What decides which settings make sense. kind: CPU, GPU or NPU, without a number. default_precision: as the device
    spells it (f32, bf16, f16), None where it does not tell. precisions: its optimization capabilities.
    efficient_cores: whether the processor has slower cores beside its fast ones; None where that cannot be told."""

    kind: str
    default_precision: str | None
    precisions: frozenset[str]
    physical_cores: int | None
    logical_cores: int | None
    efficient_cores: bool | None = None


Step = tuple[str, dict[str, Properties]]
"""What is varied, and the variants by name; each is laid over the best settings found so far."""


def steps(device: DeviceFacts) -> list[Step]:
    """The steps for a device. Nothing is varied that would only spell out what it does anyway."""
    found: list[Step] = []
    if precision := _precisions(device):
        found.append(("precision", precision))
    if caches := _caches(device):
        found.append(("KV cache", caches))
    if cores := _cores(device):
        found.append(("cores", cores))
    return found


def _precisions(device: DeviceFacts) -> dict[str, Properties]:
    default = device.default_precision
    if device.kind == "CPU":
        variants: dict[str, Properties] = {}
        if default != "f32":
            variants["f32"] = {HINT: "f32"}
        f32 = {} if default == "f32" else {HINT: "f32"}
        for group in (0, 64, 128):  # 32 is what f32 does by itself
            variants[f"f32-dq{group}"] = {**f32, GROUP: group}
        if default != "f16" and "FP16" in device.precisions:
            variants["f16"] = {HINT: "f16"}
        return variants
    if device.kind == "GPU":
        return {"dq0": {GROUP: 0}, "dq32": {GROUP: 32}, "dq128": {GROUP: 128}}
    return {}  # an NPU's pipeline has its own way with all of them


def _caches(device: DeviceFacts) -> dict[str, Properties]:
    if device.kind == "CPU":  # u8 is the default
        return {"kv-u4": {KV: "u4"}} | ({"kv-full": {KV: AS_COMPUTED}} if device.default_precision else {})
    if device.kind == "GPU":
        return {"kv-u8": {KV: "u8"}, "kv-f16": {KV: "f16"}}
    return {}


def _cores(device: DeviceFacts) -> dict[str, Properties]:
    if device.kind != "CPU":
        return {}
    variants: dict[str, Properties] = {}
    physical, logical = device.physical_cores, device.logical_cores
    if device.efficient_cores is not False and physical and physical >= 4:
        variants["fast-cores"] = {CORES: "PCORE_ONLY"}
    if physical and logical and logical > physical:
        variants["one-a-core"] = {HYPER: False}
        variants[f"threads-{logical}"] = {THREADS: logical, HYPER: True}
    if physical and physical >= 4:  # memory may be busy with fewer, and a step ends with its slowest thread
        variants[f"threads-{physical // 2}"] = {THREADS: physical // 2}
        variants[f"threads-{physical - 1}"] = {THREADS: physical - 1}
    return variants


def combined(base: Mapping[str, Any], variant: Mapping[str, Any], default_precision: str | None) -> Properties:
    """`variant` laid over `base`, on a device that computes in `default_precision` unless told otherwise."""
    own = base.get(HINT, default_precision)
    return {**base, **{name: own if value == AS_COMPUTED else value for name, value in variant.items()}}


def numerics(settings: Mapping[str, Any]) -> Properties:
    """Those of `settings` that change what is computed."""
    return {name: value for name, value in settings.items() if name not in SAME_NUMBERS}


def portable(settings: Mapping[str, Any], device: str, draft_device: str) -> Properties:
    """`settings` for an arm whose draft is on `draft_device`: engines give both models the same ones, so what only a
    CPU knows is left out where one of them is no CPU."""
    if device.partition(".")[0] == draft_device.partition(".")[0]:
        return dict(settings)
    return {name: value for name, value in settings.items() if name not in ON_THE_CPU_ONLY}
