"""Plugin settings that are tried for plain decoding before anything speculative is compared with it.

A name maps to OpenVINO properties. They are half the gain on some machines (a CPU with bf16 units: f32 with dynamic
quantization is 1.65 times as fast as its default), and nothing on others, so they are measured, never assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Any]

PLAIN_CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "f32": {"INFERENCE_PRECISION_HINT": "f32"},
    "f32-dq128": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
}


def same_as_default(default_precision: str | None) -> frozenset[str]:
    """Candidates that only spell out what a device does anyway: trying them would choose between equals by noise.

    default_precision: the device's own INFERENCE_PRECISION_HINT, such as f32; None when it does not tell.
    """
    spelled_out = {"INFERENCE_PRECISION_HINT": default_precision}
    return frozenset(name for name, settings in PLAIN_CANDIDATES.items() if settings == spelled_out)


EXACT: dict[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    "KV_CACHE_PRECISION": "f32",
}
"""Nothing rounded beyond the weights: under these settings every mode gives token for token the same greedy answer."""


def describe(settings: Settings) -> str:
    """`NAME=value` pairs in a fixed order, or `default`."""
    return " ".join(f"{name}={value}" for name, value in sorted(settings.items())) or "default"
