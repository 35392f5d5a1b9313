"""Arms and their order."""

from __future__ import annotations

import pytest

from edgespec.bench.plan import Arm, choose_modes, measured_arms, parse_gammas, parse_modes
from edgespec.bench.prompts import Suite
from edgespec.bench.schedule import blocks
from edgespec.errors import EdgespecError

CANDIDATES = {"default": {}, "f32": {"INFERENCE_PRECISION_HINT": "f32"}}


def anything_goes(device: str, mode: str) -> None:
    pass


def no_lookup(device: str, mode: str) -> None:
    if mode == "lookup":
        raise EdgespecError(f"{mode} cannot run on {device}")


def test_parsing() -> None:
    assert parse_modes(None) is None
    assert parse_modes("plain, lookup") == ("plain", "lookup")
    assert parse_gammas("5,1,2") == (1, 2, 5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("plain,magic", "magic"), ("draft", "needs plain"), ("plain,plain", "twice"), ("", "choose from")],
)
def test_unknown_arms_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(EdgespecError, match=complaint):
        parse_modes(text)


@pytest.mark.parametrize("text", ["", "two", "0", "1,1", "33", "1.5"])
def test_unknown_gammas_are_refused(text: str) -> None:
    with pytest.raises(EdgespecError, match="--gamma got"):
        parse_gammas(text)


def test_modes_follow_pair_and_device_unless_asked_for() -> None:
    assert choose_modes(None, True, "CPU", anything_goes) == (("plain", "draft", "lookup"), [])
    modes, left_out = choose_modes(None, False, "NPU", no_lookup)
    assert modes == ("plain",)
    assert len(left_out) == 2
    with pytest.raises(EdgespecError, match="has no draft"):
        choose_modes(["plain", "draft"], False, "CPU", anything_goes)
    with pytest.raises(EdgespecError, match="cannot run on NPU"):
        choose_modes(["plain", "lookup"], True, "NPU", no_lookup)


def test_the_untouched_default_is_an_arm_only_where_it_is_another() -> None:
    names = [arm.name for arm in measured_arms(["plain", "draft", "lookup"], [1, 3], "f32", CANDIDATES)]
    assert names == ["plain-default", "plain", "draft-g1", "draft-g3", "lookup"]
    names = [arm.name for arm in measured_arms(["plain", "draft"], [2], "default", CANDIDATES)]
    assert names == ["plain", "draft-g2"]


def test_gammas_share_an_engine() -> None:
    arms = measured_arms(["plain", "draft"], [1, 2, 3], "f32", CANDIDATES)
    assert len({arm.engine_key for arm in arms}) == 3


def test_schedule_is_seeded_interleaved_and_complete(suite: Suite) -> None:
    arms = [Arm(name, "plain") for name in "abcd"]
    schedule = blocks("measure", arms, suite.prompts, 2, seed=3)
    assert schedule == blocks("measure", arms, suite.prompts, 2, seed=3)
    assert schedule != blocks("measure", arms, suite.prompts, 2, seed=4)
    for repetition in (0, 1):
        part = [block for block in schedule if block.repetition == repetition]
        assert {block.prompt.id for block in part} == {prompt.id for prompt in suite.prompts}
        assert all(sorted(arm.name for arm in block.arms) == list("abcd") for block in part)
        assert len({tuple(arm.name for arm in block.arms) for block in part}) > 3, "the order of arms is drawn anew"
    assert [block.prompt for block in schedule[:12]] != [block.prompt for block in schedule[12:]]
