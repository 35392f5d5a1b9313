"""Twins as targets of known behaviour: acceptance is alpha, through int4, in both engines.

Null of the statistical test: each examined proposal is accepted with probability alpha, independently (drawing without
replacement makes it a little less scattered). Exact two-sided binomial, 1e-4 for each of 7 alphas and 2 engines: a
correct build fails with a probability below 2e-3; seeds are fixed, so it passes always or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgespec.engine.genai import GenaiEngine
from edgespec.engine.native import NativeEngine
from edgespec.pair import Pair
from edgespec.plan import Walks, measure_alpha
from edgespec.twins import twin_label

ASKED = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ANSWERS, TOKENS, GAMMA = 10, 100, 3


@pytest.fixture(scope="module", params=["genai", "native"])
def engine(request: pytest.FixtureRequest, twins: Callable[[str], Pair]) -> Iterator[GenaiEngine | NativeEngine]:
    kind = GenaiEngine if request.param == "genai" else NativeEngine
    opened = kind(twins("int4"), device="CPU", mode="draft")
    yield opened
    opened.close()


@pytest.mark.parametrize("alpha", ASKED)
def test_acceptance_is_the_alpha_asked_for(engine: GenaiEngine | NativeEngine, twin_walks: Walks, alpha: float) -> None:
    answers = [
        engine.generate(prompt, TOKENS, gamma=GAMMA).steps
        for prompt in twin_walks.drawn(alpha, TOKENS, ANSWERS, seed=7)
    ]
    measured = measure_alpha(answers, alpha)
    assert measured is not None and measured.examined > 600
    assert measured.pvalue > 1e-4, measured


def test_target_and_draft_lie_apart_and_are_labelled(twins: Callable[[str], Pair]) -> None:
    pair = twins("int4")
    assert pair.draft is not None and pair.draft.parent != pair.root
    assert pair.manifest.target.precision.startswith("int4") and pair.manifest.draft is not None
    assert pair.manifest.draft.precision == "int8_asym"
    assert pair.manifest.draft.source.id == "twin:1x128 alpha=0.30 to 0.95"
    assert twin_label(pair) == "twin:2x128 + twin:1x128 alpha=0.30 to 0.95"
