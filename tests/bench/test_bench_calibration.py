"""Which settings are chosen, and which are refused for what they say."""

from __future__ import annotations

from collections.abc import Callable

from edgespec.bench.calibration import choose_settings
from edgespec.bench.plan import settings_arms
from edgespec.bench.rows import Row

MakeRow = Callable[..., Row]
ARMS = settings_arms({"default": {}, "f32": {"INFERENCE_PRECISION_HINT": "f32"}, "wild": {"X": 1}})
DAMAGED = [0, 99, *range(2, 10)]


def trial(make_row: MakeRow, **seconds: float) -> list[Row]:
    """Four prompts twice; `seconds` by settings name."""
    return [
        make_row(f"plain-{name}", f"p{prompt}", repetition, time, phase="settings")
        for name, time in seconds.items()
        for prompt in range(4)
        for repetition in range(2)
    ]


def test_the_fastest_that_agrees_wins(make_row: MakeRow) -> None:
    rows = trial(make_row, default=2.0, f32=1.2)
    rows += [
        make_row("plain-wild", f"p{p}", r, 0.5, phase="settings", token_ids=DAMAGED) for p in range(4) for r in range(2)
    ]
    choice = choose_settings(rows, ARMS)
    assert choice.name == "f32"
    assert "1.67x" in choice.reason
    wild = next(candidate for candidate in choice.candidates if candidate.name == "wild")
    assert not wild.kept
    assert (wild.agreement, wild.compared_tokens) == (0.5, 8)  # each answer is read to its first difference: token 1


def test_a_small_lead_over_the_default_is_not_taken(make_row: MakeRow) -> None:
    choice = choose_settings(trial(make_row, default=1.0, f32=0.99, wild=1.5), ARMS)
    assert choice.name == "default"
    assert "less than 3%" in choice.reason


def test_settings_that_failed_are_named_and_not_taken(make_row: MakeRow) -> None:
    rows = trial(make_row, default=1.0)
    rows += [make_row("plain-f32", "p0", 0, None, phase="settings", error="no such property")]
    choice = choose_settings(rows, ARMS)
    assert choice.name == "default"
    assert [candidate.error for candidate in choice.candidates] == [None, "no such property", None]


def test_nothing_measured_means_the_default() -> None:
    assert choose_settings([], ARMS).name == "default"
