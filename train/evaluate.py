"""How good a draft is where it counts: real speculative decoding on held-out prompts, not teacher forcing.

`evaluate_pair` runs the native engine, whose acceptance test is exact at any temperature. `Service` is the same loop,
drafter and acceptance over PyTorch models, for a draft that is still being trained: nothing is exported for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgespec.engine.drafters.making import Request
from edgespec.engine.drafters.model import DraftModel
from edgespec.engine.loop import speculate
from edgespec.engine.native import NativeEngine
from edgespec.engine.processors import Processor
from edgespec.engine.reading import Reading
from edgespec.engine.step import Step, acceptance_by_position, acceptance_rate, block_efficiency
from edgespec.errors import EdgespecError
from edgespec.pair import Pair
from edgespec.progress import SILENT, Progress
from edgespec.sampling import Sampling

from .sequence import TorchModel

RESAMPLES = 2000
"""Of the bootstrap behind `acceptance_ci95`."""
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""On a CPU, unless told otherwise: what a draft is worth should not depend on whether the CPU has bf16 units."""


@dataclass(frozen=True)
class HeldOut:
    """A prompt to judge by. chat: `text` is what a user says, for the model's chat template; else it is continued."""

    task: str
    text: str
    chat: bool = False


def evaluate_pair(
    pair: Pair,
    prompts: Sequence[HeldOut],
    *,
    gamma: int,
    temperature: float = 0.0,
    max_new_tokens: int = 128,
    samples: int = 1,
    seed: int = 0,
    device: str = "CPU",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Acceptance figures of `pair`'s draft over `prompts`, all of them and by task.

    samples: answers to each prompt, each of its own seed; one suffices when greedy, since they are all the same.
    settings: OpenVINO properties instead of SETTINGS. Raises EdgespecError for a pair without a draft, for no prompts,
    and for a chat prompt to a model without a chat template.
    """
    return evaluate_at(
        pair,
        prompts,
        gamma=gamma,
        temperatures=[temperature],
        max_new_tokens=max_new_tokens,
        samples=samples,
        seed=seed,
        device=device,
        settings=settings,
        progress=progress,
    )[0]


def evaluate_at(
    pair: Pair,
    prompts: Sequence[HeldOut],
    *,
    gamma: int,
    temperatures: Sequence[float],
    max_new_tokens: int = 128,
    samples: int = 1,
    seed: int = 0,
    device: str = "CPU",
    settings: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """`evaluate_pair` at several temperatures with the pair loaded once; one document each, in order."""
    if not prompts:
        raise EdgespecError("there is no prompt to evaluate on; give at least one")
    if samples < 1:
        raise EdgespecError(f"samples must be at least 1, not {samples}")
    if settings is None and device.upper().startswith("CPU"):
        settings = SETTINGS
    with progress.task("loading the pair"):
        engine = NativeEngine(pair, device=device, mode="draft", settings=settings)
    assert pair.manifest.draft is not None  # the engine refused the pair otherwise
    c_params = pair.manifest.draft.parameters / pair.manifest.target.parameters
    documents = []
    try:
        asked = [
            (prompt.task, (Reading.of_chat(engine, _said(prompt)) if prompt.chat else Reading(prompt.text)).ids(engine))
            for prompt in prompts
        ]
        for temperature in temperatures:
            answers = samples if temperature > 0 else 1
            runs: list[tuple[str, list[Step]]] = []
            title = f"decoding {len(asked)} prompts at gamma {gamma}, temperature {temperature:g}"
            with progress.task(title, total=len(asked) * answers) as task:
                for index, (name, ids) in enumerate(asked):
                    steps: list[Step] = []
                    for sample in range(answers):
                        sampling = Sampling(temperature, seed=seed + index * answers + sample)
                        steps += engine.generate(ids, max_new_tokens, gamma=gamma, sampling=sampling).steps[1:]
                        task.advance()
                    runs.append((name, steps))
            documents.append(
                {"gamma": gamma, "temperature": temperature, "prompts": len(asked), "samples": answers}
                | by_task(runs, gamma, c_params)
            )
    finally:
        engine.close()
    return documents


def _said(prompt: HeldOut) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt.text}]


def by_task(runs: Sequence[tuple[str, Sequence[Step]]], gamma: int, c_params: float) -> dict[str, Any]:
    """Figures over all runs and by task. runs: (task, its steps without the prompt's pass), one a prompt.

    c_params: the draft's parameters over the target's, for MBSU = tau / (c_params * gamma + 1).
    """
    tasks: dict[str, list[Sequence[Step]]] = {}
    for name, steps in runs:
        tasks.setdefault(name, []).append(steps)
    return {
        **_figures([steps for _, steps in runs], gamma, c_params),
        "by_task": {name: _figures(found, gamma, c_params) for name, found in tasks.items()},
    }


def _figures(runs: Iterable[Sequence[Step]], gamma: int, c_params: float) -> dict[str, Any]:
    runs = list(runs)
    prefill = Step((), 0, 0)  # the shared functions expect a prompt's pass in front; pooled, one stands in for all
    steps = [prefill, *(step for run in runs for step in run)]
    tau = block_efficiency(steps)
    return {
        "acceptance_rate": acceptance_rate(steps),
        "acceptance_ci95": _interval(runs),
        "alpha": acceptance_by_position(steps),
        "block_efficiency": tau,
        "mbsu": None if tau is None else tau / (c_params * gamma + 1),
        "steps": len(steps) - 1,
    }


def _interval(runs: Sequence[Sequence[Step]]) -> list[float] | None:
    """95 % percentile bootstrap of accepted / proposed with prompts drawn anew. Prompts in whose answers nothing was
    proposed (one may end with its first token) say nothing; None for fewer than two others."""
    counts = np.array(
        [[sum(step.accepted or 0 for step in run), sum(step.proposed or 0 for step in run)] for run in runs]
    )
    counts = counts[counts[:, 1] > 0] if len(counts) else counts
    if len(counts) < 2:
        return None
    drawn = counts[np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))].sum(axis=1)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return [float(low), float(high)]


class Service:
    """Speculative decoding with a draft in training: the target stays, the draft is looked at as it is when called.

    The draft sees real service this way at an interval: what a loss does not show (a draft that falls out of step after
    its first mistake, or whose likeliest token is never the target's) shows in the acceptance rate.
    """

    def __init__(
        self,
        target: torch.nn.Module,
        prompts: Sequence[tuple[str, Sequence[int]]],
        *,
        gamma: int = 3,
        temperatures: Sequence[float] = (0.6, 0.0),
        max_new_tokens: int = 48,
        stop_ids: Iterable[int] = (),
        seed: int = 0,
    ) -> None:
        """target: a transformers causal LM. prompts: (task, token ids). stop_ids: they end an answer."""
        self._target = TorchModel(target)
        self._parameters = _parameters(target)
        self._prompts = list(prompts)
        self._gamma = gamma
        self._temperatures = list(temperatures)
        self._max_new_tokens = max_new_tokens
        self._stop_ids = frozenset(stop_ids)
        self._seed = seed
        if not self._prompts:
            raise EdgespecError("there is no prompt to judge the draft by; give at least one")

    @property
    def device(self) -> torch.device:
        """Where the target is."""
        found: torch.device = next(self._target.model.parameters()).device
        return found

    def __call__(self, draft: torch.nn.Module) -> list[dict[str, Any]]:
        """One document as `evaluate_pair`'s for each temperature. The draft's mode and random state are left alone."""
        was_training = draft.training
        draft.eval()
        try:
            with torch.inference_mode():
                return [self._at(draft, temperature) for temperature in self._temperatures]
        finally:
            draft.train(was_training)

    def _at(self, draft: torch.nn.Module, temperature: float) -> dict[str, Any]:
        model = TorchModel(draft)
        vocab_size = min(model.vocab_size, self._target.vocab_size)
        drafter = DraftModel(model, vocab_size)
        sequence = self._target.sequence()
        runs = []
        for index, (task, ids) in enumerate(self._prompts):
            sampling = Sampling(temperature, seed=self._seed + index)
            processor = Processor(sampling, vocab_size, prompt_length=len(ids))
            request = Request(processor, np.random.default_rng(sampling.seed))
            steps: list[Step] = []
            for step in speculate(sequence, drafter.serve(request), request, ids, self._max_new_tokens, self._gamma):
                steps.append(step)
                if self._stop_ids.intersection(step.tokens):
                    break
            runs.append((task, steps[1:]))
        c_params = _parameters(draft) / self._parameters
        head = {"gamma": self._gamma, "temperature": temperature, "prompts": len(runs)}
        return head | by_task(runs, self._gamma, c_params)


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())  # a tied head counts once


def read_temperatures(text: str) -> list[float]:
    """`0.6` or `0,0.6`: temperatures in the order given. Raises EdgespecError naming what is no number."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise EdgespecError(f"temperatures are numbers parted by commas, such as 0,0.6, not '{text}'") from error
    for temperature in found:
        Sampling(temperature)  # refuses what is out of range
    return found
