"""One answer over two engines: when the draft is left behind, and what is told of the part that was plain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.engine.step import Generation
from edgespec.runtime import answering as module
from edgespec.runtime.answering import Answering, plain_time
from edgespec.runtime.modes import Way
from edgespec.runtime.requests import asked_for, make_request
from edgespec.runtime.worker import Job
from edgespec.sampling import Biases, Sampling


def answering() -> Answering:
    """Of a request that ends at token 9 too."""
    job = Job(lambda job: None, lambda item: None)
    return Answering(job, make_request(list, {"stop_token_ids": [9]}), [1], 100, None)


def losing_draft() -> Any:
    """A genai draft whose governor has seen enough of it; the model ends a text at 7 and at 8."""
    return SimpleNamespace(
        way=Way("genai", "draft"),
        engine=SimpleNamespace(stop_ids=frozenset({7, 8})),
        governor=SimpleNamespace(
            on=False, gain=0.1, plain_pace=1e9, begin=lambda: None, saw=lambda *_, speculated: None
        ),
    )


@pytest.mark.parametrize(("last", "leaves"), [(5, True), (7, False), (8, False), (9, False)])
def test_a_draft_is_not_left_at_the_end_of_a_text(last: int, leaves: bool) -> None:
    answer = answering()
    on_tokens = answer._genai_tokens(losing_draft(), 100, may_leave=True)
    assert not on_tokens([3])
    assert on_tokens([4, last]) is leaves is answer.left_draft
    assert answer.tokens == [3, 4, last]


def test_a_draft_is_not_left_where_nothing_else_is_loaded() -> None:
    answer = answering()
    on_tokens = answer._genai_tokens(losing_draft(), 100, may_leave=False)
    on_tokens([3])
    assert not on_tokens([4, 5]) and not answer.left_draft


def test_the_plain_part_has_a_pace_of_its_own() -> None:
    answer = answering()
    answer._join(Generation(token_ids=[1] * 11, steps=[], finish_reason="stop", ttft_s=1.0, wall_s=31.0))
    answer._join(Generation(token_ids=[2] * 6, steps=[], finish_reason="length", ttft_s=2.0, wall_s=4.5))
    assert answer.generation is not None and answer.generation.wall_s == 35.5
    assert answer.last is not None and plain_time(answer.last) == (5, 2.5)


def test_steps_that_come_faster_than_a_screen_is_drawn_are_handed_over_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, sent = [100.0], list[Any]()
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    job = Job(lambda job: None, lambda item: None)
    answer = Answering(job, make_request(list, {}), [1], 100, sent.append)
    for after, token in ((0.0, 1), (0.004, 2), (0.004, 3), (0.010, 4), (0.004, 5), (0.050, 6)):
        clock[0] += after
        answer._take([token], [False])
    assert [[tokens for tokens, _ in steps] for steps in sent] == [[[1]], [[2], [3], [4]], [[5], [6]]]
    answer._take([7], [True])
    answer.flush()
    answer.flush()
    assert sent[3:] == [[([7], [True])]]


def test_a_sampling_becomes_the_options_that_ask_for_it() -> None:
    """Every field differs from its default, so one that is lost shows."""
    asked = Sampling(0.5, 7, 0.9, 3, 0.1, 1.2, 0.3, 0.4, Biases({5: -1.0}), (9,), ("end",))
    assert make_request(list, asked_for(asked)).sampling == asked
