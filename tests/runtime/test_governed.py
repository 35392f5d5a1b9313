"""The governor over a real engine, with a draft that is always wrong and one that is always right."""

from __future__ import annotations

import pytest

from edgespec import Pair, SpecPipeline
from edgespec.engine.drafters.making import Nothing
from edgespec.engine.proposal import NOTHING, Proposal, Verified, chain
from edgespec.runtime import routing
from edgespec.runtime.governed import Watch
from edgespec.runtime.governor import Governor
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


def test_a_hostile_draft_changes_nothing_and_is_silenced(
    hostile_draft_pair: Pair, self_draft_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real engines; the clock is scripted into the watch, since a test must not depend on the machine's. Auto's own
    choice would copy from the context, which pays here."""
    monkeypatch.setattr(routing, "HYBRID", Way("native", "draft"))
    with SpecPipeline(self_draft_pair, mode="native-plain", settings=EXACT) as plain:
        expected = plain.generate(PROMPT, max_new_tokens=200).token_ids
    with SpecPipeline(hostile_draft_pair, settings=EXACT) as opened:
        watch = opened._the_engines.opened[0].watch
        assert watch is not None and watch.governor is not None
        ticks = [0.0]

        def clock() -> float:
            """Read before each step: the last one took twice as long if it was one with speculation."""
            ticks[0] += 0.020 if asked[-1:] == [True] else 0.010
            return ticks[0]

        asked: list[bool] = []
        speculate = watch.governor.speculate

        def noted() -> bool:
            asked.append(speculate())
            return asked[-1]

        watch.governor.speculate = noted  # type: ignore[method-assign]
        watch.clock = clock
        result = opened.generate(PROMPT, max_new_tokens=200)
        assert result.token_ids == expected
        assert "speculation is off: its measured gain was" in str(opened.explain())
