"""A machine that slows down while it is measured is read off its plain runs, and what it measured is put right."""

from __future__ import annotations

import pytest

from edgespec.plan.drift import Drift
from edgespec.plan.session import Passes
from edgespec.plan.step_model import Timed


def run(gamma: int, place: int, step_s: float, number: int = 0) -> Timed:
    return Timed(0.7, gamma, 11, 10, 10 * step_s, number, place)


def test_what_lies_between_two_plain_runs_is_put_at_their_usual_pace() -> None:
    """Plain steps of 0.1, 0.2 and 0.3 s at places 0, 4 and 8: at place 2 the machine is at 0.15, at 7 at 0.275."""
    runs = [run(0, 0, 0.1), run(3, 2, 0.3), run(0, 4, 0.2), run(3, 7, 0.55), run(0, 8, 0.3)]
    steady = [Drift(runs).run(one) for one in runs]
    assert [one.seconds / one.steps for one in steady] == pytest.approx([0.2, 0.4, 0.2, 0.4, 0.2])
    assert [(one.alpha, one.gamma, one.tokens, one.place) for one in steady] == [
        (one.alpha, one.gamma, one.tokens, one.place) for one in runs
    ]


def test_passes_are_put_at_the_pace_of_the_plain_run_behind_them() -> None:
    """The second round ran at half the speed, plain steps and passes alike."""
    runs = [run(0, 0, 0.1), run(0, 8, 0.1), run(0, 0, 0.2, 1), run(0, 8, 0.2, 1), run(0, 0, 0.1, 2)]
    fast, slow = Passes({1: 0.09, 3: 0.12}, {2: 0.01}, 1.5), Passes({1: 0.18, 3: 0.24}, {2: 0.02}, 1.5)
    found = Drift(runs).passes({(0, 0): fast, (1, 0): slow, (1, 8): slow})
    assert dict(found.target) == pytest.approx({1: 0.09, 3: 0.12}) and dict(found.draft) == pytest.approx({2: 0.01})
    bare = Drift([]).passes({(0, 0): fast, (1, 0): slow, (1, 8): slow})
    assert dict(bare.target) == pytest.approx({1: 0.18, 3: 0.24})


def test_a_round_that_was_interrupted_before_its_second_plain_run_has_the_pace_of_the_first() -> None:
    runs = [run(0, 0, 0.1), run(0, 8, 0.1), run(0, 0, 0.2, 1), run(3, 5, 0.5, 1), run(3, 1, 0.5, 2)]
    drift = Drift(runs)
    assert drift.run(runs[3]).seconds == pytest.approx(0.5 * 5.0)
    assert drift.run(runs[4]) == runs[4], "a round without a plain run is left as it is"
