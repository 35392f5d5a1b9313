"""Heats: everything is timed once beside the reference, within the memory there is, and ratios chain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgespec.errors import EdgespecError
from edgespec.quantize.heats import chained, plan_heats


@given(st.lists(st.integers(1, 50), max_size=12), st.integers(1, 50), st.integers(1, 250))
def test_every_model_has_its_place_and_no_heat_is_too_large(sizes: list[int], own: int, free: int) -> None:
    needs = {"reference": own, **{str(number): size for number, size in enumerate(sizes)}}
    if own + max(sizes, default=0) > free:
        with pytest.raises(EdgespecError, match="GB are free; close other programs, or sweep on a machine with more"):
            plan_heats(needs, "reference", free)
        return
    heats = plan_heats(needs, "reference", free)
    assert all(heat[0] == "reference" for heat in heats)
    assert sorted(name for heat in heats for name in heat[1:]) == sorted(map(str, range(len(sizes))))
    assert all(sum(needs[name] for name in heat) <= free for heat in heats)
    if own + sum(sizes) <= free:
        assert len(heats) == 1


def test_the_refusal_has_the_figures() -> None:
    needs = {("target", "int4_sym"): 5_000_000_000, ("target", "int8_sym"): 9_500_000_000}
    says = r"timing target int8_sym beside target int4_sym needs about 14\.5 GB of memory and 12\.0 GB are free; close"
    with pytest.raises(EdgespecError, match=says):
        plan_heats(needs, ("target", "int4_sym"), 12_000_000_000)
    with pytest.raises(
        EdgespecError, match=r"timing target int4_sym needs about 5\.0 GB of memory and 1\.0 GB are fre"
    ):
        plan_heats({("target", "int4_sym"): 5_000_000_000}, ("target", "int4_sym"), 1_000_000_000)


def test_a_heat_on_a_slower_machine_changes_no_ratio() -> None:
    true = {"reference": {1: 1.0, 4: 1.5}, "a": {1: 2.0, 4: 2.5}, "b": {1: 0.1}, "c": {1: 3.0}}
    heats = [("reference", "a"), ("reference", "b"), ("reference", "c")]
    slow = [1.0, 2.0, 0.5]
    measured = [
        {name: {n: t * factor for n, t in true[name].items()} for name in heat}
        for heat, factor in zip(heats, slow, strict=True)
    ]
    found = chained(measured, "reference")
    assert found == {name: pytest.approx(times) for name, times in true.items()}
    assert chained(measured[1:2], "reference") == measured[1]
