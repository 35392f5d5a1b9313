"""How good a draft is where it counts: real speculative decoding on prompts, not teacher forcing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgespec.engine.genai import open_engine
from edgespec.engine.step import Step, acceptance_by_position, acceptance_rate, block_efficiency
from edgespec.pair import Pair
from edgespec.progress import SILENT, Progress
from edgespec.sampling import Sampling


def evaluate_pair(
    pair: Pair,
    prompts: Sequence[tuple[str, str]],
    *,
    gamma: int,
    temperature: float = 0.0,
    max_new_tokens: int = 128,
    device: str = "CPU",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Acceptance figures of `pair`'s draft over (task, text) prompts, all of them and by task.

    Raises EdgespecError at temperature above 0: openvino-genai's draft mode does not follow the target there.
    """
    with progress.task("loading the pair"):
        engine = open_engine(pair, device=device, mode="draft")
    by_task: dict[str, list[list[Step]]] = {}
    try:
        with progress.task(f"decoding {len(prompts)} prompts at gamma {gamma}", total=len(prompts)) as task:
            for name, text in prompts:
                ids = engine.encode(text)
                generation = engine.generate(ids, max_new_tokens, gamma=gamma, sampling=Sampling(temperature))
                by_task.setdefault(name, []).append(generation.steps)
                task.advance()
    finally:
        engine.close()
    assert pair.manifest.draft is not None  # the engine refused the pair otherwise
    c_params = pair.manifest.draft.parameters / pair.manifest.target.parameters
    figures = _figures([steps for runs in by_task.values() for steps in runs], gamma, c_params)
    return {
        "gamma": gamma,
        "temperature": temperature,
        "prompts": len(prompts),
        **figures,
        "by_task": {name: _figures(runs, gamma, c_params) for name, runs in by_task.items()},
    }


def _figures(runs: Iterable[list[Step]], gamma: int, c_params: float) -> dict[str, Any]:
    prefill = Step((), 0, 0)  # each run's first step is its prefill; pooled, one stands in for all
    steps = [prefill, *(step for run in runs for step in run[1:])]
    tau = block_efficiency(steps)
    return {
        "acceptance_rate": acceptance_rate(steps),
        "alpha": acceptance_by_position(steps),
        "block_efficiency": tau,
        "mbsu": None if tau is None else tau / (c_params * gamma + 1),
    }
