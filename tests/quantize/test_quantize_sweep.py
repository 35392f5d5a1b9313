"""The sweep: the front is a front, the winner is kept whole, and what it says can be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec import resources
from edgespec.commands.quantize import run
from edgespec.errors import EdgespecError
from edgespec.pair import Pair, read_manifest
from edgespec.quantize import Ask, Options, Request, quantize_pair, sweep_pair
from edgespec.quantize.cost import Quality
from edgespec.quantize.front import Point, drawing, front_of
from edgespec.quantize.sweep import CANDIDATES, Combination, chosen

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
    text.write_text("\n".join(json.dumps({"prompt": ask.text}) for ask in ASKS))
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
        (Request(samples=8), 0.9, "--num-samples, --sample-tokens and --seed are for calibration text, and --sweep"),
        (Request(sample_tokens=64), 0.9, "--num-samples, --sample-tokens and --seed are for calibration text"),
        (Request(seed=3), 0.9, "--num-samples, --sample-tokens and --seed are for calibration text"),
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


def test_a_sweep_that_does_not_fit_into_memory_is_refused(
    tmp_path: Path, tiny_pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory_bytes", lambda: 100_000_000)
    with pytest.raises(EdgespecError, match=r"a sweep over 8 candidates, all open at once .* needs about 0\.8 GB"):
        sweep_pair(tiny_pair, tmp_path / "out", Request(), asks=ASKS)
    assert not list(tmp_path.iterdir())
