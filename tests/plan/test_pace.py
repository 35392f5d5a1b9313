"""A machine whose pace moves while it is measured, of one token, of several, or of all, is put at its usual pace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgespec.plan.pace import EVERY, WINDOW, pace_of, steady
from edgespec.plan.session import CHAINS
from edgespec.plan.step_model import Answer, StepModel, Timed, usual_passes

PASSES = StepModel({n: 0.08 + 0.01 * n for n in CHAINS}, {2: 0.01}, 1.5)


def answer(plain_s: float, step_s: float, one: float = 1.0, several: float = 1.0) -> Answer:
    """one, several: what passes over one token and over more take, of PASSES'."""
    target = {n: (one if n == 1 else several) * seconds for n, seconds in PASSES.target.items()}
    passes = replace(PASSES, target=target, draft={2: several * 0.01})
    return Answer(Timed(0.7, 3, 22, 10, step_s), Timed(0.7, 0, 10, 10, plain_s), passes)


@pytest.mark.parametrize(("one", "several"), [(2.0, 2.0), (2.0, 1.0), (1.0, 2.0)])
def test_each_kind_is_put_at_its_usual_pace(one: float, several: float) -> None:
    """In the last third of the answers one token, several, or both took twice as long."""
    answers = [answer(0.1, 0.15)] * (2 * WINDOW) + [answer(0.1 * one, 0.15 * several, one, several)] * WINDOW
    even = steady(answers)
    far = [*even[: 2 * WINDOW - WINDOW // 2], *even[2 * WINDOW + WINDOW // 2 :]]  # from the change itself
    for each in far:
        assert each.passes is not None
        assert each.plain.step_s == pytest.approx(0.1) and each.speculative.step_s == pytest.approx(0.15)
        assert dict(each.passes.target) == pytest.approx(dict(PASSES.target))
        assert dict(each.passes.draft) == pytest.approx({2: 0.01}) and each.passes.wide == 1.5
    pace = pace_of(answers)
    assert pace.moved and max(pace.plain_s) == pytest.approx(0.1 * one)
    assert max(pace.several_s) == pytest.approx(min(pace.several_s) * several)


def test_one_disturbed_answer_says_nothing_of_the_pace() -> None:
    answers = [answer(0.1, 0.15)] * WINDOW
    answers[4] = answer(0.17, 0.15, 1.7, 3.0)
    even = steady(answers)
    assert [each.speculative.step_s for each in even] == pytest.approx([0.15] * WINDOW)
    assert even[4].plain.step_s == pytest.approx(0.17) and not pace_of(answers).moved


def test_few_answers_have_more_than_one_pace() -> None:
    answers = [answer(0.1, 0.15)] * 6 + [answer(0.2, 0.3, 2.0, 2.0)] * 5
    assert pace_of(answers).moved
    even = steady(answers)
    assert [even[at].speculative.step_s for at in (0, 4, 7, 10)] == pytest.approx([0.15] * 4)
    (alone,) = steady(answers[:1])
    assert alone == answers[0]


def test_answers_without_passes_have_the_pace_of_those_around() -> None:
    """Passes stand in every third, and several tokens take twice as long in the last third of all."""
    answers = [answer(0.1, 0.15)] * (2 * WINDOW) + [answer(0.1, 0.3, 1.0, 2.0)] * WINDOW
    answers = [each if at % EVERY == 0 else replace(each, passes=None) for at, each in enumerate(answers)]
    even = steady(answers)
    assert [even[at].speculative.step_s for at in (0, 1, 14, 28, 31, 32)] == pytest.approx([0.15] * 6)
    assert [each.passes is None for each in even] == [each.passes is None for each in answers]


def test_lengths_that_few_answers_have_are_their_median_alone() -> None:
    longer = replace(PASSES, target={1: 0.05, 3: 0.13, 16: 0.4}, wide=1.7)
    found = usual_passes(replace(answer(0.1, 0.15), passes=each) for each in (PASSES, None, longer, PASSES))
    assert found.target[1] == PASSES.target[1] and found.target[16] == 0.4 and found.wide == 1.5
