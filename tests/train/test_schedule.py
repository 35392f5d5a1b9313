from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.errors import EdgespecError
from edgespec.train.schedule import Schedule


def test_cosine_by_hand() -> None:
    schedule = Schedule("cosine", warmup=0.1, floor=0.2)
    assert [schedule.factor(step, 100) for step in (0, 9)] == pytest.approx([1 / 11, 10 / 11])
    assert schedule.factor(10, 100) == pytest.approx(1)
    assert schedule.factor(55, 100) == pytest.approx(0.6)
    assert schedule.factor(100, 100) == pytest.approx(0.2)


def test_wsd_by_hand() -> None:
    schedule = Schedule("wsd", warmup=0.1, decay=0.4)
    assert [schedule.factor(step, 100) for step in (10, 59, 60)] == [1, 1, 1]
    assert schedule.factor(80, 100) == pytest.approx(0.5)
    assert schedule.factor(100, 100) == 0


@given(
    shape=st.sampled_from(["cosine", "wsd"]),
    warmup=st.floats(0, 0.5),
    decay=st.floats(0, 0.5),
    floor=st.floats(0, 1),
    steps=st.integers(1, 400),
)
def test_the_rate_rises_once_and_falls_once(shape: str, warmup: float, decay: float, floor: float, steps: int) -> None:
    schedule = Schedule(shape, warmup, decay, floor)  # type: ignore[arg-type]
    factors = [schedule.factor(step, steps) for step in range(steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shape": "step"}, "'step' is not known; choose cosine or wsd"),
        ({"warmup": 1.5}, "warmup is 1.5; give a share between 0 and 1"),
        ({"shape": "wsd", "warmup": 0.6, "decay": 0.6}, "more than the whole run together"),
    ],
)
def test_what_is_no_schedule_is_a_sentence(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(EdgespecError, match=sentence):
        Schedule(**options)  # type: ignore[arg-type]
