from __future__ import annotations

import numpy as np
import pytest

from edgespec.bench.verify.sameness import Difference, Margins, Sameness, difference, differs_more

LOGITS = np.array([[0.0, 3.0, 2.0], [1.0, 0.5, 0.9], [0.0, 0.0, 5.0]], np.float32)
PLAIN = [1, 0, 2]


def differing(*prompts: str) -> Sameness:
    return Sameness(10, tuple(Difference(prompt, 0, 3, 0.1) for prompt in prompts))


def test_a_difference_carries_its_logit_gap() -> None:
    assert difference("p", PLAIN, PLAIN, LOGITS) is None
    found = difference("p", [1, 2, 2], PLAIN, LOGITS)
    assert found is not None
    assert (found.prompt, found.position, found.of) == ("p", 1, 3)
    assert found.logit_gap == pytest.approx(0.1)
    towards_the_better = difference("p", PLAIN, [1, 2], LOGITS)
    assert towards_the_better is not None and towards_the_better.logit_gap == pytest.approx(-0.1)


def test_an_answer_that_only_ends_elsewhere_has_no_gap_and_no_excuse() -> None:
    found = difference("p", PLAIN[:2], PLAIN, LOGITS)
    assert found == Difference("p", 2, 3, None)
    assert not found.explained(100.0)


def test_rounding_explains_a_gap_of_two_shifts_either_way() -> None:
    for sign in (1, -1):
        assert Difference("p", 0, 3, sign * 0.1).explained(0.05001)
        assert not Difference("p", 0, 3, sign * 0.1).explained(0.04999)
    assert not Difference("p", 0, 3, 1e-6).explained(0.0), "nothing is explained where nothing was rounded"
    assert Difference("p", 0, 3, 0.0).explained(0.0), "a tie is a tie"


def test_shift_is_the_largest_change_of_the_gap_between_the_two_likeliest() -> None:
    other = LOGITS.copy()
    other[0] += 7  # every logit alike: no gap changes
    other[1, 0] -= 0.06
    other[1, 2] += 0.01
    other[2, 1] += 0.02
    best_two = Margins.of(LOGITS)
    np.testing.assert_allclose(best_two.gap, [1.0, 0.1, 5.0], atol=1e-6)
    assert best_two.shift(other) == pytest.approx(0.07, abs=1e-6)
    assert best_two.shift(LOGITS) == 0


def test_mcnemar_by_hand() -> None:
    none = differing()
    assert differs_more(none, none) == 1
    assert differs_more(differing("a", "b"), differing("a", "b")) == 1
    assert differs_more(none, differing("a", "b", "c")) == 1
    assert differs_more(differing(*"abcde"), none) == pytest.approx(0.5**5)
    assert differs_more(differing(*"abcdx"), differing("x", "y")) == pytest.approx((1 + 5) / 2**5)  # 4 of 5 are ours
