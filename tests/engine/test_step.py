from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.engine.step import Generation, Step, acceptance_by_position, acceptance_rate, block_efficiency

PREFILL = Step((7,), 0, 0)


def _step(accepted: int, proposed: int) -> Step:
    return Step(tuple(range(accepted + 1)), proposed, accepted)


def test_figures_by_hand() -> None:
    steps = [PREFILL, _step(3, 3), _step(0, 3), _step(1, 3), _step(2, 2)]
    assert block_efficiency(steps) == (4 + 1 + 2 + 3) / 4
    assert acceptance_rate(steps) == 6 / 11
    # position 1: 3 of 4 accepted; position 2: 2 of the 3 that got there; position 3: 1 of the 1 that had a third
    assert acceptance_by_position(steps) == [pytest.approx(3 / 4), pytest.approx(2 / 3), pytest.approx(1.0)]


def test_nothing_known_is_none() -> None:
    assert block_efficiency([PREFILL]) is None
    assert acceptance_rate([PREFILL, Step((1,), None, None)]) is None
    assert acceptance_by_position([PREFILL]) == []


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_alpha_product_gives_the_acceptance_rate(counts: list[tuple[int, int]]) -> None:
    steps = [PREFILL, *(_step(min(a, b), max(a, b)) for a, b in counts)]
    alphas = acceptance_by_position(steps)
    assert all(alpha is None or 0 <= alpha <= 1 for alpha in alphas)
    rate = acceptance_rate(steps)
    if all(step.proposed == steps[1].proposed for step in steps[1:]) and rate is not None:
        chain, expected = 1.0, 0.0
        for alpha in alphas:
            chain *= alpha or 0.0
            expected += chain
        assert rate == pytest.approx(expected / len(alphas))


def test_clock_figures() -> None:
    generation = Generation([1, 2, 3, 4, 5], [PREFILL], "length", ttft_s=0.2, wall_s=1.0)
    assert generation.tokens_per_second == 5
    assert generation.tpot_s == pytest.approx(0.2)
    assert Generation([1], [PREFILL], "stop", 0.2, 0.2).tpot_s is None
