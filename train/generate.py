"""The alignment set: the target itself continues prefixes of training text, greedily and sampled.

A draft is judged by how often it says what the target says, so it learns from the target's words, not from people's
(sequence-level distillation; FastDraft, arXiv:2411.11055, section on fine-tuning).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgespec.progress import SILENT, Progress


@dataclass(frozen=True)
class Completion:
    """A prefix of training text and what the target said next, both as token ids."""

    prompt: list[int]
    answer: list[int]
    temperature: float


def cut_prompts(
    documents: Sequence[Sequence[int]], count: int, shortest: int, longest: int, seed: int
) -> list[list[int]]:
    """`count` prefixes: each starts at the head of a random document's random window and has shortest..longest ids."""
    draw = random.Random(seed)
    long_enough = [document for document in documents if len(document) > 2 * shortest]
    prompts = []
    for _ in range(count):
        document = draw.choice(long_enough)
        length = draw.randint(shortest, min(longest, len(document) - 1))
        start = draw.choice((0, draw.randint(0, len(document) - length)))
        prompts.append(list(document[start : start + length]))
    return prompts


def complete(
    target: Path,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    *,
    max_new_tokens: int,
    seed: int,
    concurrent: int = 32,
    progress: Progress = SILENT,
) -> list[Completion]:
    """Let the target (a directory openvino-genai loads) continue every prompt, `concurrent` at a time.

    Prompt i is decoded at temperatures[i % len(temperatures)]; 0 is greedy.
    """
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False
    scheduler.max_num_seqs = concurrent
    scheduler.max_num_batched_tokens = 2048
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(target), scheduler, "CPU")
    completions: list[Completion] = []
    with progress.task(f"the target writes {len(prompts)} answers", total=len(prompts)) as task:
        for start in range(0, len(prompts), concurrent):
            chunk = prompts[start : start + concurrent]
            chosen = [temperatures[(start + index) % len(temperatures)] for index in range(len(chunk))]
            configs = []
            for index, temperature in enumerate(chosen):
                config = openvino_genai.GenerationConfig()
                config.max_new_tokens = max_new_tokens
                config.do_sample = temperature > 0
                if temperature > 0:
                    config.temperature = temperature
                    config.rng_seed = seed + start + index
                configs.append(config)
            tensors = [openvino.Tensor(np.asarray([prompt], dtype=np.int64)) for prompt in chunk]
            for prompt, temperature, result in zip(chunk, chosen, pipeline.generate(tensors, configs), strict=True):
                answer = [int(token) for token in result.m_generation_ids[0]]
                completions.append(Completion(list(prompt), answer, temperature))
            task.advance(len(chunk))
    return completions
