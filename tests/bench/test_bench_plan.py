"""Arms and their order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgespec.bench.cases import cases_of
from edgespec.bench.plan import (
    Arm,
    choose_modes,
    measured_arms,
    parse_contexts,
    parse_gammas,
    parse_modes,
    parse_thresholds,
)
from edgespec.bench.prompts import Suite
from edgespec.bench.rows import Header
from edgespec.bench.schedule import blocks
from edgespec.errors import EdgespecError

MakeHeader = Callable[..., Header]
CANDIDATES: dict[str, dict[str, str]] = {"default": {}, "f32": {"INFERENCE_PRECISION_HINT": "f32"}}


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


def test_the_untouched_default_is_an_arm_only_where_it_is_another(make_header: MakeHeader) -> None:
    header = make_header(modes=["plain", "draft", "lookup"], gammas=[1, 3], candidates=CANDIDATES)
    assert [arm.name for arm in measured_arms(header, "f32")] == [
        "plain-default",
        "plain",
        "draft-g1",
        "draft-g3",
        "lookup",
    ]
    assert [arm.name for arm in measured_arms(make_header(candidates=CANDIDATES), "default")] == ["plain", "draft-g2"]


def test_gammas_share_an_engine_and_the_control_has_its_own(make_header: MakeHeader) -> None:
    arms = measured_arms(make_header(modes=["plain", "control", "draft"], gammas=[1, 2, 3]), "default")
    assert [arm.name for arm in arms[:2]] == ["plain", "plain-again"]
    assert len({arm.engine_key for arm in arms}) == 3


def test_thresholds_and_draft_devices_are_arms(make_header: MakeHeader) -> None:
    header = make_header(modes=["plain", "dynamic"], gammas=[], thresholds=[0.3, 0.5], draft_devices=["CPU", "GPU"])
    arms = measured_arms(header, "default")
    assert [arm.name for arm in arms] == [
        "plain",
        "dynamic-t0.3",
        "dynamic-t0.5",
        "dynamic-t0.3@GPU",
        "dynamic-t0.5@GPU",
    ]
    assert [arm.draft_device for arm in arms] == [None, "CPU", "CPU", "GPU", "GPU"]
    assert arms[1].options == {"threshold": 0.3}


def test_sampling_leaves_out_what_does_not_keep_the_distribution() -> None:
    modes, left_out = choose_modes(None, True, "CPU", anything_goes, sampled=True)
    assert modes == ("plain", "lookup")
    assert "follows the draft" in left_out[0]
    with pytest.raises(EdgespecError, match="follows the draft"):
        choose_modes(["plain", "draft"], True, "CPU", anything_goes, sampled=True)


@pytest.mark.parametrize(("text", "found"), [(None, ()), ("4096,1024,1024", (1024, 4096))])
def test_contexts(text: str | None, found: tuple[int, ...]) -> None:
    assert parse_contexts(text) == found


@pytest.mark.parametrize("text", ["", "much", "0", "-5"])
def test_contexts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(EdgespecError, match="--context got"):
        parse_contexts(text)


@pytest.mark.parametrize("text", ["", "high", "0", "1", "1.5"])
def test_thresholds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(EdgespecError, match="--threshold got"):
        parse_thresholds(text)


def test_schedule_is_seeded_interleaved_and_complete(suite: Suite) -> None:
    arms = [Arm(name, "plain") for name in "abcd"]
    cases = cases_of(suite.prompts)
    rounds = [blocks("measure", arms, cases, repetition, seed=3) for repetition in (0, 1)]
    assert rounds[0] == blocks("measure", arms, cases, 0, seed=3)
    assert rounds[0] != blocks("measure", arms, cases, 0, seed=4)
    for part in rounds:
        assert {block.case for block in part} == set(cases)
        assert all(sorted(arm.name for arm in block.arms) == list("abcd") for block in part)
        assert len({tuple(arm.name for arm in block.arms) for block in part}) > 3, "the order of arms is drawn anew"
    assert [block.case for block in rounds[0]] != [block.case for block in rounds[1]]
