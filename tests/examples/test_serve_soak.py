"""The soak of a server: what it says of memory, and a whole one of seconds on the tiny pair."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "serve_soak.py"
    spec = importlib.util.spec_from_file_location("serve_soak", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def samples(start: float, slope: float, noise: float, count: int = 300, seed: int = 0) -> list[tuple[int, int]]:
    """Ten answers a sample; a warm-up of the first tenth, then `slope` bytes an answer."""
    draw = np.random.default_rng(seed)
    return [
        (10 * index, int(start - 1e8 * max(0, 30 - index) / 30 + slope * 10 * index + draw.normal(0, noise)))
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("slope", "noise", "verdict"),
    [(0, 1e5, "flat"), (1e3, 1e5, "flat"), (2e4, 1e5, "grows"), (0, 3e7, "not decided")],
)
def test_memory_is_flat_grows_or_is_not_decided(example: ModuleType, slope: float, noise: float, verdict: str) -> None:
    found = example.trend(samples(4e8, slope, noise, seed=1), 0.02)
    assert found.verdict == verdict and found.answers == 1990
    low, high = found.ci95
    assert low <= found.bytes_per_1000_answers <= high


def test_the_interval_holds_the_slope_as_often_as_it_says(example: ModuleType) -> None:
    """Of 400 series 95 % should: fewer than 365 or more than 395 would come by chance once in some 2,000 times."""
    slope = 1e3
    intervals = [example.trend(samples(4e8, slope, 1e6, seed=seed), 0.02).ci95 for seed in range(400)]
    held = sum(low < 1000 * slope < high for low, high in intervals)
    assert 365 <= held <= 395, "neither the warm-up nor the noise is taken for growth"


def test_too_few_samples_say_nothing(example: ModuleType) -> None:
    assert example.trend(samples(4e8, 0, 0, count=30), 0.02) is None
    assert example.trend([(5, 1)] * 300, 0.02) is None, "no answer came"


def test_what_is_wrong_is_said(example: ModuleType) -> None:
    well: dict[str, Any] = {
        "memory": {"verdict": "flat"}, "outcomes": {"429": 7, "whole": 9}, "first_failure": None,
        "served_by_client": {"least": 3, "most": 5}, "left": {"running": 0, "waiting": 0}, "freed_s": [0.1],
        "ready_after_kill_s": [2.0], "exit_code": 0, "tracebacks": 0,
    }  # fmt: skip
    assert example.judged(well) == []
    for change, words in (
        ({"memory": {"verdict": "grows"}}, "memory: grows"),
        ({"outcomes": {"failed": 2}, "first_failure": "stream: 500 x"}, "2 requests failed other than with 429"),
        ({"served_by_client": {"least": 2, "most": 5}}, "a client was served 2 times and another 5"),
        ({"left": {"running": 1, "waiting": 0}}, "slots: "),
        ({"freed_s": [0.1, 4.0]}, "freed after 4.0 s at most"),
        ({"ready_after_kill_s": [2.0, 6.0]}, "a restart took more than 5 s"),
        ({"exit_code": -15}, "exit code -15"),
    ):
        (said,) = example.judged(well | change)
        assert words in said


def test_a_server_outlives_its_clients_and_its_own_death(example: ModuleType, tiny_pair: Path) -> None:
    wish = example.arguments(
        [
            str(tiny_pair),
            "--clients",
            "6",
            "--seconds",
            "3",
            "--starts",
            "1",
            "--lengths",
            "20",
            "--",
            "--device",
            "CPU",
        ]
    )
    found = example.soak(wish)
    outcomes = found["outcomes"]
    assert {"whole", "stream", "stop", "hang-up"} <= outcomes.keys() and "failed" not in outcomes
    assert found["answers"] == sum(count for kind, count in outcomes.items() if kind != "429") > 20
    assert found["served_by_client"]["least"] > 0 and found["left"] == {"running": 0, "waiting": 0}
    assert found["hang_ups_noticed"] > 0 and found["exit_code"] == 0 and found["tracebacks"] == 0
    assert len(found["ready_after_kill_s"]) == 1 and found["memory"]["answers"] > 0
    assert any(name == "memory" and "MB a 1,000 answers" in said for name, said in example.table(found))
