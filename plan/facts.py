"""Published figures and hardware as data: what a plan is held against, and what training is priced with.

FastDraft: Zafrir et al. 2024, arXiv:2411.11055 (Findings of ACL 2025), "FastDraft: How to Train Your Draft". Its
acceptance rates are accepted / drafted at gamma 3 and temperature 0.6, taken from secondary notes of the paper, since
its tables could not be read where this was written. Peak rates are the makers' dense bf16 figures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgespec.errors import EdgespecError

from .step_model import alpha_of_rate

RATE_GAMMA = 3
FASTDRAFT = "FastDraft (arXiv:2411.11055), gamma 3, temperature 0.6"


@dataclass(frozen=True)
class Published:
    """One published draft. rates: acceptance rate at gamma 3 by task, after all three stages of training."""

    name: str
    target: str
    parameters: int
    rates: Mapping[str, float]

    @property
    def text_rate(self) -> float:
        """Mean over its natural-language tasks."""
        found = [rate for task, rate in self.rates.items() if task != "HumanEval"]
        return sum(found) / len(found)

    @property
    def code_rate(self) -> float:
        return self.rates["HumanEval"]

    def alphas(self) -> dict[str, float]:
        """Alpha, the same at every position, by kind of text: the rate is accepted / drafted, which is no alpha."""
        return {
            "text": alpha_of_rate(self.text_rate, RATE_GAMMA),
            "code": alpha_of_rate(self.code_rate, RATE_GAMMA),
        }


PUBLISHED = (
    Published(
        "Phi-3-mini-FastDraft-50M",
        "phi-3-mini",
        50_000_000,
        {"CNN-DailyMail": 0.369, "TinyStories": 0.306, "Dolly": 0.370, "HumanEval": 0.562},
    ),
    Published(
        "Llama-3.1-8B-FastDraft-150M",
        "llama-3.1-8b",
        150_000_000,
        {"CNN-DailyMail": 0.307, "TinyStories": 0.266, "Dolly": 0.334, "HumanEval": 0.649},
    ),
)


def published_like(target: str, parameters: int) -> Published:
    """The published draft of this target, else the one nearest in size."""
    own = [one for one in PUBLISHED if one.target == target]
    return min(own or PUBLISHED, key=lambda one: abs(math.log(one.parameters / parameters)))


@dataclass(frozen=True)
class Stage:
    name: str
    tokens: float


RECIPE = (Stage("pre-training on text", 5e9), Stage("continued on code and text", 7.5e9))
"""FastDraft's, by token; its fine-tuning on the target's own answers has no published count."""
ALIGN_TOKENS = 1e8
"""Of the target's own answers; an assumption, by which the price of generating them is told."""

PEAK_TFLOPS: Mapping[str, float] = MappingProxyType(
    {
        "h100": 989.0,
        "h200": 989.0,
        "a100": 312.0,
        "gaudi2": 432.0,
        "l40s": 362.0,
        "rtx4090": 165.0,
        "rtx3090": 71.0,
        "mi300x": 1307.0,
    }
)
UTILISATION = 0.35
"""Share of the peak that training a small model reaches; an assumption, told beside the hours."""


@dataclass(frozen=True)
class Hardware:
    """What trains. tflops: sustained, all of it together. utilisation: the share of its peak that was assumed."""

    name: str
    tflops: float
    utilisation: float | None = None


def find_hardware(text: str) -> Hardware:
    """A name of PEAK_TFLOPS, with a count before it (8xgaudi2), or sustained TFLOP/s as a number.

    Raises EdgespecError naming the choices.
    """
    found = re.fullmatch(r"(?:(\d+)x)?([a-z][a-z0-9]*)", text.lower())
    if found and found[2] in PEAK_TFLOPS and found[1] != "0":
        return Hardware(text.lower(), int(found[1] or 1) * PEAK_TFLOPS[found[2]] * UTILISATION, UTILISATION)
    try:
        tflops = float(text)
    except ValueError:
        tflops = 0.0
    if not (tflops > 0 and math.isfinite(tflops)):
        raise EdgespecError(
            f"'{text}' is no hardware known here; give the TFLOP/s it sustains as a number, or one of "
            f"{', '.join(PEAK_TFLOPS)}, with a count before it where there are several, such as 8xgaudi2"
        )
    return Hardware(f"{tflops:g} TFLOP/s", tflops)


@dataclass(frozen=True)
class Training:
    """tokens, flops: of the recipe. hours: on the hardware asked for. align_flops, align_hours: of ALIGN_TOKENS answers
    that the target writes, counted as FLOPs; one answer at a time is slower, for memory's sake."""

    tokens: float
    flops: float
    hours: float
    align_flops: float
    align_hours: float


def training(matmul_parameters: int, target_matmul_parameters: int, hardware: Hardware) -> Training:
    """6 FLOPs a weight and token to train (Kaplan et al. 2020), 2 to read; an embedding's look-up takes none."""
    tokens = sum(stage.tokens for stage in RECIPE)
    flops = 6.0 * matmul_parameters * tokens
    align = 2.0 * target_matmul_parameters * ALIGN_TOKENS
    per_hour = hardware.tflops * 1e12 * 3600
    return Training(tokens, flops, flops / per_hour, align, align / per_hour)
