"""The sweep: the front is a front, the winner is kept whole, and what it says can be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec import resources
from edgespec.commands.quantize import _show_sweep, run
from edgespec.console import Terminal
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, read_manifest
from edgespec.progress import SILENT
from edgespec.quantize import Ask, Options, Request, footprint, quantize_pair, sweep_pair, timing
from edgespec.quantize.front import Point, drawing, front_of
from edgespec.quantize.reading import Quality
from edgespec.quantize.sweep import CANDIDATES, Combination, chosen

sweep_module = import_module("edgespec.quantize.sweep_pair")  # the name means the function above
ASKS = [Ask("def add(a, b):\n    return", False), Ask("class Stack:\n    def push(self", False)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(costs: list[tuple[int, int]]) -> None:
    front = front_of(costs)
    assert any(front)
    for mine, on_front in zip(costs, front, strict=True):
        beaten = any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in costs)
        assert on_front is not beaten


def combination(target: str, ms: float, kl: float, top1: float) -> Combination:
    return Combination(
        target=target,
        draft="int8_sym",
        bytes=1,
        quality=Quality(top1, kl, 2.0, 10),
        plain_ms=ms,
        v={4: 1.2},
        c=0.1,
        gamma=3,
        acceptance_rate=0.5,
        tau=2.0,
        ms_per_token=ms,
        acceptance_by_gamma={3: 0.5},
    )


def test_the_winner_is_the_fastest_that_agrees_enough() -> None:
    found = [
        combination("none", 0.5, 0.0, 1.0),  # not compressed: shown, never kept
        combination("int4_sym", 1.0, 0.3, 0.8),
        combination("int4_asym", 2.0, 0.1, 0.92),
        combination("int8_sym", 3.0, 0.01, 0.99),
    ]
    assert [one.target for one in chosen(found, 0.9) if one.winner] == ["int4_asym"]
    assert [one.target for one in chosen(found, 0.5) if one.winner] == ["int4_sym"]
    assert [one.target for one in chosen(found, 0.999) if one.winner] == ["int8_sym"]  # nothing does: the closest
    assert [one.target for one in chosen(found, 0.9)] == ["none", "int4_sym", "int4_asym", "int8_sym"]


def test_the_drawing_shows_every_point_and_names_the_front() -> None:
    points = [Point("a + <b>", 1.0, 0.3, on_front=True), Point("c + d", 2.0, 0.1, True, True), Point("e + f", 3.0, 0.4)]
    root = ElementTree.fromstring(drawing(points, "pair & formats"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}circle")) == 3
    labels = [node.text for node in root.findall(f"{space}text")]
    assert "a + <b>" in labels
    assert "c + d (kept)" in labels
    assert "e + f" not in labels
    for circle in root.findall(f"{space}circle"):
        assert 0 < float(circle.get("cx", "0")) < 820
        assert 0 < float(circle.get("cy", "0")) < 460


@pytest.mark.parametrize("points", [[Point("one", 1.0, 0.0, True, True)], [Point("a", 1.0, 0.0), Point("b", 1.0, 0.0)]])
def test_points_that_coincide_can_be_drawn(points: Sequence[Point]) -> None:
    assert "nan" not in drawing(points, "t")


def test_a_sweep_keeps_the_winner_and_says_why(
    tmp_path: Path, tiny_pair: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CANDIDATES, "cpu", {"target": ("int8_sym", "int4_sym"), "draft": ("none", "int8_sym")})
    text = tmp_path / "held.jsonl"
    text.write_text("\n".join(json.dumps({"prompt": ask.text * 4}) for ask in ASKS))
    run(tiny_pair, tmp_path / "out", sweep=True, eval_text=text, min_agreement=0.5, json_output=True)
    document = json.loads(capfd.readouterr().out.splitlines()[-1])
    pair = Pair.open(tmp_path / "out")
    found = document["combinations"]
    assert {(one["target"], one["draft"]) for one in found} == {
        (target, draft) for target in ("none", "int8_sym", "int4_sym") for draft in ("none", "int8_sym")
    }
    (winner,) = [one for one in found if one["winner"]]
    assert document["winner"] == f"{winner['target']} + {winner['draft']}"
    assert pair.manifest.target.precision.startswith(winner["target"])
    assert winner["decoded_ms_per_token"] > 0
    assert found == sorted(found, key=lambda one: one["ms_per_token"])
    assert pair.manifest.made[-1].checks["sweep"]["combinations"] == found
    assert read_manifest(tiny_pair).made == pair.manifest.made[:-1]
    assert Path(document["plot"]).read_text().startswith("<svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held.jsonl", "out", "out-sweep.svg"]
    for one in found:
        assert set(one["v"]) == {"2", "3", "4", "5", "6"}
        assert one["quality"]["positions"] > 0


@pytest.mark.parametrize(
    ("request_", "agreement", "says"),
    [
        (Request(target="int8"), 0.9, "--sweep chooses the formats itself; leave out --target"),
        (Request(both=Options(ratio=0.5)), 0.9, "--sweep chooses the formats itself"),
        (Request(own={"draft": Options(ratio=0.5)}), 0.9, "--sweep chooses the formats itself; leave out .* their opt"),
        (Request(samples=8), 0.9, "--num-samples and --sample-tokens are for calibration text, and --sweep uses none"),
        (Request(sample_tokens=64), 0.9, "--num-samples and --sample-tokens are for calibration text"),
        (Request(upstream=False), 0.9, "--no-upstream-defaults choose a setting for int4, and --sweep compares round"),
        (Request(), 1.5, "--min-agreement is a share of tokens, from 0 to 1, not 1.5"),
        (Request(device="tpu"), 0.9, "there is no preset for 'tpu'"),
    ],
)
def test_what_a_sweep_refuses(tmp_path: Path, tiny_pair: Path, request_: Request, agreement: float, says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        sweep_pair(tiny_pair, tmp_path / "out", request_, asks=ASKS, min_agreement=agreement)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sweep": True, "cost": True}, "--sweep measures what every candidate costs; leave out --cost"),
        ({"sweep": True, "cost": False}, "--sweep measures what every candidate costs; leave out .*--no-cost"),
        ({"min_agreement": 0.8}, "--min-agreement chooses the winner of a sweep; add --sweep, or leave it out"),
    ],
)
def test_options_of_a_sweep_alone_or_never(tmp_path: Path, tiny_pair: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(EdgespecError, match=says):
        run(tiny_pair, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_sweep_over_a_compressed_pair_is_refused(tmp_path: Path, tiny_pair: Path) -> None:
    once, _ = quantize_pair(tiny_pair, tmp_path / "once", target="none", draft="int8")
    with pytest.raises(EdgespecError, match=r"the draft of '.*once' is compressed already \(int8_asym\)"):
        sweep_pair(once.root, tmp_path / "out", Request(), asks=ASKS)


def test_a_sweep_whose_reference_does_not_fit_is_refused(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 100_000_000)
    says = (
        r"a sweep runs the uncompressed target, with which every format is compared, and needs about 0\.4 GB of memory"
    )
    with pytest.raises(EdgespecError, match=says):
        sweep_pair(tiny_pair, tmp_path / "out", Request(), asks=ASKS)
    assert not list(tmp_path.iterdir())


class Listener(type(SILENT)):  # type: ignore[misc]
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def test_in_little_memory_models_are_timed_in_heats_with_one_in_each(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for three models: as many are open at a time, and the smallest target is one of them in every heat."""
    monkeypatch.setitem(CANDIDATES, "cpu", {"target": ("int8_sym", "int4_sym"), "draft": ("none", "int8_sym")})
    monkeypatch.setattr(footprint, "MODEL_BYTES", 1_000_000_000)
    free = [3_400_000_000]
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: free[0])
    heats: list[list[tuple[str, str]]] = []
    real = timing.measure_models

    def measure(opened: Any, **options: Any) -> Any:
        heats.append(list(opened))
        free[0] = 4_400_000_000  # for decoding: two pairs
        return real(opened, **options, repetitions=1)

    monkeypatch.setattr(timing, "measure_models", measure)
    progress = Listener()
    _, found, _, made = sweep_pair(
        tiny_pair, tmp_path / "out", Request(), asks=ASKS, max_new_tokens=4, min_agreement=0, progress=progress
    )
    assert [len(heat) for heat in heats] == [3, 3]
    assert all(heat[0] == ("target", "int4_sym") for heat in heats)
    assert {one for heat in heats for one in heat} == {
        *(("target", name) for name in ("none", "int8_sym", "int4_sym")),
        *(("draft", name) for name in ("none", "int8_sym")),
    }
    assert len(found) == 6
    assert made.checks["sweep"]["heats"] == [[" ".join(one) for one in heat] for heat in heats]
    assert (
        "the sweep compresses 2 formats of the target and 2 of the draft, then times passes of 5 models in 2 heats of "
        "at most 3, the target as int4_sym in each (all at once would take about 5.3 GB of memory and 3.4 GB are free)"
    ) in progress.said
    decoded = [one for one in found if one.decoded_ms_per_token is not None]
    assert any(one.winner for one in decoded)


def test_an_uncompressed_target_too_large_to_be_timed_is_compared_all_the_same(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CANDIDATES, "cpu", {"target": ("int4_sym",), "draft": ("int8_sym",)})
    monkeypatch.setattr(footprint, "MODEL_BYTES", 1_000_000_000)
    large = sweep_module.UNCOMPRESSED
    planned = sweep_module._planned

    def plan(*arguments: Any) -> Any:
        found = planned(*arguments)
        return replace(found, needs={**found.needs, large: 2_500_000_000})

    monkeypatch.setattr(sweep_module, "_planned", plan)
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 3_000_000_000)
    progress = Listener()
    _, found, _, _ = sweep_pair(
        tiny_pair, tmp_path / "out", Request(), asks=ASKS, max_new_tokens=4, min_agreement=0, progress=progress
    )
    assert [one.label for one in found] == ["int4_sym + int8_sym"]
    assert found[0].quality.kl > 0
    assert any("; the uncompressed target is too large to be timed beside another" in one for one in progress.said)


def test_best_combinations_that_do_not_fit_are_not_decoded_and_that_is_said(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that was there for single models is gone when pairs are to be opened."""
    monkeypatch.setitem(CANDIDATES, "cpu", {"target": ("int8_sym",), "draft": ("int8_sym",)})
    free = [3_000_000_000]
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: free[0])
    real = timing.time_passes

    def time_passes(*arguments: Any) -> Any:
        found = real(*arguments)
        free[0] = 310_000_000
        return found

    monkeypatch.setattr("edgespec.quantize.sweep.time_passes", time_passes)
    progress = Listener()
    pair, found, _, _ = sweep_pair(
        tiny_pair, tmp_path / "out", Request(), asks=ASKS, max_new_tokens=4, min_agreement=0, progress=progress
    )
    assert all(one.decoded_ms_per_token is None for one in found)
    says = "the best are not decoded with for real: timing none + int8_sym beside int8_sym + int8_sym needs about"
    assert any(one.startswith(says) for one in progress.said)
    assert Pair.open(pair.root).manifest.target.precision == "int8_sym"


def test_the_tables_of_a_sweep_fit_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ("int4_sym", "int4_asym", "int8_asym", "none")
    some = [
        replace(combination(target, 10 + 7 * n + m, 0.1 * n, 0.9), draft=draft, v={n: 1.5 for n in range(2, 7)})
        for n, target in enumerate(names)
        for m, draft in enumerate(("int8_asym", "none"))
    ]
    _show_sweep(Terminal(), chosen(some, 0.5))
    told = capfd.readouterr().err
    assert max(map(len, told.splitlines()[:-1])) <= 80 or "ms/token =" in told.splitlines()[-1]
    rows = [line for line in told.splitlines() if " + " in line and line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == [f"{name} + int8_asym" for name in names]
    assert "kept" in rows[0]
    assert "4 slower combinations are in the plot, the manifest and --json." in told
