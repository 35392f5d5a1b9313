"""What openvino-genai says under penalties and filters, replayed through `Processor` over the same model's logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgespec.engine.genai import GenaiEngine
from edgespec.engine.processors import Processor
from edgespec.engine.stateful import StatefulModel
from edgespec.pair import Pair
from edgespec.sampling import Sampling

F32 = {"INFERENCE_PRECISION_HINT": "f32"}
PROMPT = "def add(a, b):\n"


@pytest.fixture(scope="module")
def engine(tiny_pair: Path) -> GenaiEngine:
    return GenaiEngine(Pair.open(tiny_pair), device="CPU", settings=F32)


@pytest.fixture(scope="module")
def model(tiny_pair: Path) -> StatefulModel:
    return StatefulModel(str(tiny_pair / "target" / "openvino_model.xml"), "CPU", F32)


def distributions(model: StatefulModel, prompt: list[int], answer: list[int], how: Sampling) -> list[np.ndarray]:
    """Of each token of the answer, by one pass over all."""
    model.reset()
    logits = model.feed(np.asarray([*prompt, *answer[:-1]]))[len(prompt) - 1 :]
    processor = Processor(how, logits.shape[1], prompt_length=len(prompt))
    return [processor.distribution(row, [*prompt, *answer[:place]]) for place, row in enumerate(logits)]


@pytest.mark.parametrize(
    "how",
    [
        Sampling(),
        Sampling(repetition_penalty=1.3),
        Sampling(presence_penalty=1.5),
        Sampling(frequency_penalty=0.8),
        Sampling(presence_penalty=-1.2, frequency_penalty=1.1, repetition_penalty=0.8),
    ],
)
def test_greedy_answers_are_the_same_token_by_token(engine: GenaiEngine, model: StatefulModel, how: Sampling) -> None:
    prompt = engine.encode(PROMPT)
    answer = engine.generate(prompt, 48, sampling=how).token_ids
    for token, distribution in zip(answer, distributions(model, prompt, answer, how), strict=True):
        assert distribution.argmax() == token


@pytest.mark.parametrize(
    "how",
    [
        Sampling(1.5, top_k=3),
        Sampling(1.2, top_p=0.6),
        Sampling(1.5, min_p=0.3),
        Sampling(1.3, top_k=20, top_p=0.7, min_p=0.1, presence_penalty=1.0, repetition_penalty=1.2),
    ],
)
def test_sampled_answers_stay_within_what_the_filters_leave(
    engine: GenaiEngine, model: StatefulModel, how: Sampling
) -> None:
    """And reach its edges: over some hundred tokens about as much probability is drawn as is there."""
    prompt = engine.encode(PROMPT)
    drawn: list[float] = []
    expected: list[float] = []
    for seed in range(4):
        sampling = Sampling(**{**how.__dict__, "seed": seed})
        answer = engine.generate(prompt, 60, sampling=sampling).token_ids
        for token, distribution in zip(answer, distributions(model, prompt, answer, sampling), strict=True):
            assert distribution[token] > 0
            drawn.append(float(distribution[token]))
            expected.append(float(distribution @ distribution))
    # null: a token's own probability has mean sum(p^2); its spread is at most that of a coin. Error rate below 1e-3
    assert np.mean(drawn) == pytest.approx(np.mean(expected), abs=3.3 * 0.5 / len(drawn) ** 0.5)
