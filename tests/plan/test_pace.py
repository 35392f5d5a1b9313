"""A machine whose pace moves while it is measured is read off the plain steps of each answer, and put right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgespec.plan.pace import WINDOW, Pace, pace_of, steady
from edgespec.plan.step_model import Answer, StepModel, Timed, usual_passes

PASSES = StepModel({1: 0.09, 3: 0.12}, {2: 0.01}, 1.5)


def answer(plain_s: float, step_s: float, slow: float = 1.0) -> Answer:
    passes = StepModel({n: slow * s for n, s in PASSES.target.items()}, {2: slow * 0.01}, 1.5)
    return Answer(Timed(0.7, 3, 22, 10, 10 * step_s), Timed(0.7, 0, 10, 10, 10 * plain_s), passes)


def test_all_answers_are_put_at_the_usual_pace() -> None:
    """The last third of the answers ran at half the speed, plain steps, speculative ones and passes alike."""
    answers = [answer(0.1, 0.15) for _ in range(2 * WINDOW)] + [answer(0.2, 0.3, 2.0) for _ in range(WINDOW)]
    even = steady(answers)
    far = [*even[: 2 * WINDOW - WINDOW // 2], *even[2 * WINDOW + WINDOW // 2 :]]  # from the change itself
    for one in far:
        assert one.plain.step_s == pytest.approx(0.1) and one.speculative.step_s == pytest.approx(0.15)
        assert dict(one.passes.target) == pytest.approx({1: 0.09, 3: 0.12})
        assert dict(one.passes.draft) == pytest.approx({2: 0.01}) and one.passes.wide == 1.5
    assert pace_of(answers) == Pace(0.1, 0.1, 0.2) and pace_of(answers).moved


def test_one_answers_disturbed_plain_steps_say_nothing_of_its_other_steps() -> None:
    answers = [answer(0.1, 0.15) for _ in range(WINDOW)]
    answers[4] = answer(0.17, 0.15)
    even = steady(answers)
    assert [one.speculative.step_s for one in even] == pytest.approx([0.15] * WINDOW)
    assert not pace_of(answers).moved


def test_few_answers_share_one_pace() -> None:
    assert pace_of([answer(0.25, 0.1), answer(0.75, 0.1), answer(0.5, 0.1)]) == Pace(0.5, 0.5, 0.5)


def test_lengths_that_few_answers_have_are_their_median_alone() -> None:
    longer = replace(PASSES, target={1: 0.08, 3: 0.13, 16: 0.4}, wide=1.7)
    found = usual_passes([PASSES, longer, PASSES])
    assert dict(found.target) == {1: 0.09, 3: 0.12, 16: 0.4} and found.wide == 1.5
