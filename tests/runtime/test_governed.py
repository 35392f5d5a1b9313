"""The governor over a real engine, with a draft that is always wrong and one that is always right."""

from __future__ import annotations

import pytest

from edgespec import Pair, SpecPipeline
from edgespec.engine.drafters.making import Nothing
from edgespec.engine.proposal import NOTHING, Proposal, Verified, chain
from edgespec.runtime import routing
from edgespec.runtime.governed import Watch
from edgespec.runtime.governor import SHORTEST, Governor
from edgespec.runtime.modes import Way
from edgespec.settings import EXACT

PROMPT = "def add(a, b):\n    return"


class Guess(Nothing):
    """Proposes two tokens, whatever came before."""

    def propose(self, budget: int) -> Proposal:
        return chain([1, 2][:budget])


def steps_of_a_text(watch: Watch, count: int, accepted: int, spent: dict[bool, float]) -> int:
    """Drive a watched drafter by a clock that moves as `spent` says of steps with and without a proposal; how many
    steps had one."""
    drafter = watch.wrap(Guess())
    drafter.begin([5])
    proposed = 0
    for _ in range(count):
        proposal = drafter.propose(8)
        proposed += len(proposal) > 0
        now.append(now[-1] + spent[len(proposal) > 0])
        drafter.observe(Verified(proposal, tuple(range(accepted if len(proposal) else 0)), 9, None))  # type: ignore[arg-type]
    return proposed


now = [0.0]


def test_a_draft_that_is_always_wrong_falls_silent() -> None:
    watch = Watch(Governor(), clock=lambda: now[-1])
    watch.begin()
    proposed = steps_of_a_text(watch, 500, accepted=0, spent={False: 0.010, True: 0.015})
    assert watch.governor is not None and not watch.governor.on
    assert proposed < 40
    assert watch.from_draft == [False] * 500


def test_a_draft_that_is_always_right_speaks_on_and_is_told_apart() -> None:
    watch = Watch(Governor(), clock=lambda: now[-1])
    watch.begin()
    proposed = steps_of_a_text(watch, 300, accepted=2, spent={False: 0.010, True: 0.015})
    assert watch.governor is not None and watch.governor.on and proposed > 280
    assert sum(watch.from_draft) == 2 * proposed


def test_an_explicit_mode_is_not_governed_and_a_last_token_is_not_timed() -> None:
    watch = Watch(None)
    assert len(watch.wrap(Guess()).propose(8)) == 2
    governed = Watch(Governor()).wrap(Guess())
    assert governed.propose(0) is NOTHING


def by_a_script(watch: Watch | None) -> list[bool]:
    """Put a clock into `watch` that is read before each step, whose last one took twice as long if it was one with
    speculation; the list grows by what the governor says of each step."""
    assert watch is not None and watch.governor is not None
    ticks, asked = [0.0], list[bool]()
    speculate = watch.governor.speculate

    def clock() -> float:
        ticks[0] += 0.020 if asked[-1:] == [True] else 0.010
        return ticks[0]

    def noted() -> bool:
        asked.append(speculate())
        return asked[-1]

    watch.governor.speculate = noted  # type: ignore[method-assign]
    watch.clock = clock
    return asked


def test_a_hostile_draft_changes_nothing_and_is_silenced(
    hostile_draft_pair: Pair, self_draft_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real engines; the clock is scripted into the watch, since a test must not depend on the machine's. Auto's own
    choice would copy from the context, which pays here."""
    monkeypatch.setattr(routing, "HYBRID", Way("native", "draft"))
    with SpecPipeline(self_draft_pair, mode="native-plain", settings=EXACT) as plain:
        expected = plain.generate(PROMPT, max_new_tokens=200).token_ids
    with SpecPipeline(hostile_draft_pair, settings=EXACT) as opened:
        asked = by_a_script(opened._the_engines.opened[0].watch)
        result = opened.generate(PROMPT, max_new_tokens=200)
        assert result.token_ids == expected
        assert "speculation is off: its measured gain was 0.50x" in str(opened.explain())
        found_out = len(asked)
        assert opened.generate(PROMPT, max_new_tokens=200).token_ids == expected
        assert sum(asked[found_out:]) <= 4, "at most one try: 0.98 of plain by this clock"


def test_a_draft_that_pays_again_is_heard_again(self_draft_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned off, it is tried after so many plain tokens; four tokens a step in twice the time are a gain of two."""
    monkeypatch.setattr(routing, "HYBRID", Way("native", "draft", 3))
    with SpecPipeline(self_draft_pair, settings=EXACT) as opened:
        asked = by_a_script(opened._the_engines.opened[0].watch)
        governor = opened._governor(Way("native", "draft"))
        governor._turn_off(0.5)
        opened.generate(PROMPT, max_new_tokens=200)
        assert not any(asked[: SHORTEST - 1]) and all(asked[SHORTEST + 4 : SHORTEST + 20])
        assert governor.on and governor.gain == pytest.approx(2.0, rel=0.05)
        assert "speculation is on; measured gain 2." in str(opened.explain())
