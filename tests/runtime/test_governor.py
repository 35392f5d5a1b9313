"""The governor over scripted machines: a step's seconds are known, so what it may cost and must gain can be counted."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.profile import PlainDecoding, Profile
from edgespec.runtime.governor import ENOUGH, LONGEST, REFERENCE, SHORTEST, TRY, Governor, governor_for
from edgespec.runtime.modes import Way

Pace = Callable[[int], float]
PLAIN_S = 0.010


@dataclass
class Drive:
    """What became of a text: its seconds, its tokens, how many steps speculated."""

    seconds: float = 0.0
    tokens: int = 0
    speculated: int = 0


def drive(governor: Governor, tokens: int, gain: Pace, *, noise: float = 0.0, plain: Pace = lambda _: PLAIN_S) -> Drive:
    """Decode `tokens` on a machine where a speculative step emits 3 tokens, and is `gain(token)` times as fast a token
    as plain decoding, whose seconds a token are `plain(token)`."""
    done, draw = Drive(), random.Random(0)
    governor.begin()
    while done.tokens < tokens:
        speculate = governor.speculate()
        pace = plain(done.tokens)
        emitted = 3 if speculate else 1
        seconds = (3 * pace / gain(done.tokens) if speculate else pace) * (1 + noise * draw.uniform(-1, 1))
        governor.saw(emitted, seconds, speculated=speculate)
        done.seconds += seconds
        done.tokens += emitted
        done.speculated += speculate
    return done


def test_a_draft_that_is_always_wrong_is_turned_off_and_costs_next_to_nothing() -> None:
    governor = Governor()
    done = drive(governor, 2000, lambda _: 0.4)
    assert not governor.on and "off" in governor.sentence() and "0.40x" in governor.sentence()
    assert done.seconds / (done.tokens * PLAIN_S) < 1.06
    later = drive(governor, 4000, lambda _: 0.4)
    assert later.seconds / (later.tokens * PLAIN_S) < 1.02, "once it is known, only tries cost something"


def test_a_draft_that_pays_stays_on_and_nearly_all_of_its_gain_is_kept() -> None:
    governor = Governor()
    done = drive(governor, 3000, lambda _: 2.0)
    assert governor.on and governor.switches == 0
    assert done.tokens * PLAIN_S / done.seconds > 1.94


def test_it_comes_back_when_speculation_pays_again() -> None:
    governor = Governor()
    done = drive(governor, 6000, lambda token: 0.6 if token < 1500 else 2.0)
    assert governor.on and governor.switches == 2
    kept = done.seconds / (1500 * PLAIN_S + 4500 * PLAIN_S / 2)
    assert kept < 1.12


def test_a_machine_that_slows_down_is_not_the_drafts_fault() -> None:
    governor = Governor()
    drive(governor, 3000, lambda _: 1.5, plain=lambda token: PLAIN_S if token < 1000 else 3 * PLAIN_S)
    assert governor.on and governor.switches == 0, "fresh plain steps show that plain decoding is as slow"


@settings(max_examples=60, deadline=None)
@given(st.floats(0.3, 4.0), st.floats(0.0, 0.15))
def test_whatever_the_gain_it_is_never_much_slower_than_plain(gain: float, noise: float) -> None:
    done = drive(Governor(), 2000, lambda _: gain, noise=noise)
    assert done.seconds <= 1.07 * done.tokens * PLAIN_S
    if gain > 1.3:
        assert done.tokens * PLAIN_S / done.seconds > 1 + 0.8 * (gain - 1)


def test_tries_become_rarer_and_a_new_text_is_tried_sooner() -> None:
    """At a gain of 0.9 a try of five steps and a first one, three tokens each, loses two tokens' time: 200 tokens pay
    for it."""
    governor = Governor()
    drive(governor, 5000, lambda _: 0.9)
    assert f"every {LONGEST} tokens" in governor.sentence()
    governor.begin()
    assert f"every {LONGEST // 2} tokens" in governor.sentence()
    for _ in range(10):
        governor.begin()
    assert "every 200 tokens" in governor.sentence()


@settings(max_examples=60, deadline=None)
@given(st.floats(0.2, 0.99), st.floats(1.0, 20.0))
def test_short_answers_lose_next_to_nothing_by_a_draft_that_never_pays(gain: float, prompt: float) -> None:
    """Forty answers of 48 tokens, whose first step with speculation takes `prompt` times as long, since the draft reads
    the prompt then. What is found out in the first answers is not paid for in every later one."""
    governor, seconds, tokens = Governor(), [], []
    for _ in range(40):
        fresh = [True]

        def pace(token: int, fresh: list[bool] = fresh) -> float:
            first, fresh[0] = fresh[0], False
            return gain / prompt if first else gain

        done = drive(governor, 48, pace)
        seconds.append(done.seconds)
        tokens.append(done.tokens)
    later = sum(seconds[5:]) / sum(tokens[5:]) / PLAIN_S
    assert later < 1.03, "tries take a hundredth of the time, and may fall anywhere in these"
    finding_out = 2 * 3 * prompt / gain + 15 * 3 * (1 / gain - 1)  # two first steps, and steps until it is clear
    assert sum(seconds) / PLAIN_S < 1.03 * sum(tokens) + finding_out


def test_whole_answers_are_governed_by_a_pace_that_was_measured_beforehand() -> None:
    governor = Governor(plain_s=PLAIN_S, interleaves=False)
    assert governor.speculate()
    while governor.on:
        governor.saw(2, 5 * PLAIN_S, speculated=True)
    assert governor.gain == pytest.approx(0.4)
    assert not governor.speculate()
    governor.saw(100, 100 * PLAIN_S, speculated=False)
    assert governor.speculate(), "after so many plain tokens an answer is a try"
    for _ in range(6):
        governor.saw(3, PLAIN_S, speculated=True)
    assert governor.on and governor.gain == pytest.approx(3.0)


def test_whole_answers_begin_with_a_plain_one_where_nothing_is_known() -> None:
    governor = Governor(interleaves=False)
    assert not governor.would_speculate and not governor.speculate()
    assert "the first answer is a plain one, to measure it" in governor.sentence()
    governor.saw(REFERENCE - 1, 2 * PLAIN_S, speculated=False)
    assert not governor.speculate(), "two tokens are no pace"
    governor.saw(40, 40 * PLAIN_S, speculated=False)
    assert governor.would_speculate and governor.speculate() and "not known yet" in governor.sentence()


def test_a_mode_that_was_measured_to_pay_begins_with_it_though_no_pace_is_known() -> None:
    """A profile of an edgespec that wrote no pace."""
    governor = Governor(interleaves=False, proven=True)
    assert governor.speculate()
    for _ in range(50):
        governor.saw(1, 1.0, speculated=True)
    assert governor.on and governor.gain is None, "without a plain pace nothing is judged"


def test_a_pace_measured_beforehand_gives_way_to_what_is_measured_here() -> None:
    """The machine runs on battery now, at a third of its speed, and so does everything: the draft still pays."""
    governor = Governor(plain_s=PLAIN_S, interleaves=False, proven=True)
    for _ in range(ENOUGH + 2):
        governor.saw(2, 2 * 2 * PLAIN_S, speculated=True)
    assert not governor.on, "by the old pace it is half as fast"
    governor.saw(SHORTEST, SHORTEST * 3 * PLAIN_S, speculated=False)
    assert governor.plain_pace == pytest.approx(3 * PLAIN_S), "one plain answer is enough"
    assert governor.speculate(), "a try is due"
    for _ in range(TRY + 1):
        governor.saw(2, 2 * 2 * PLAIN_S, speculated=True)
    assert governor.on and governor.gain == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("way", "interleaves", "proven", "plain_s"),
    [
        (Way("native", "hybrid"), True, False, 0.012),
        (Way("genai", "draft", 3), False, True, 0.012),
        (Way("genai", "eagle3"), False, False, 0.012),
    ],
)
def test_a_governor_knows_what_the_profile_measured(way: Way, interleaves: bool, proven: bool, plain_s: float) -> None:
    plain = PlainDecoding(engine="genai", settings={}, tokens_per_second=50.0, tpot_ms=12.0, context_tokens=80)
    profile = Profile.model_construct(engine="genai", mode="draft", plain=plain)
    governor = governor_for(way, profile)
    assert (governor.interleaves, governor.proven, governor.plain_s) == (interleaves, proven, plain_s)
    older = Profile.model_construct(engine="genai", mode="draft", plain=plain.model_copy(update={"tpot_ms": None}))
    assert governor_for(way, older).plain_s is None, "tokens per second hold the prompt's pass"
    assert governor_for(way, None).plain_s is None and not governor_for(way, None).proven
