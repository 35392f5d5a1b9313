"""Which settings are tried where, and which ways to decode, in which order."""

from __future__ import annotations

from typing import Any

import pytest

from edgespec.errors import EdgespecError
from edgespec.tuning.modes import FOR_SAMPLING_ONLY, PROMISING, bare_name, under, ways
from edgespec.tuning.settings import DeviceFacts, combined, numerics, portable, steps

CORE_ULTRA = DeviceFacts("CPU", "f32", frozenset({"FP32", "INT8"}), 16, 22)
SERVER = DeviceFacts("CPU", "bf16", frozenset({"BF16", "FP16", "FP32"}), 2, 2, False)


def allow(device: str, mode: str) -> None:
    pass


def test_a_cpu_with_bf16_is_tried_in_f32() -> None:
    found = dict(steps(SERVER))
    assert found["precision"]["f32"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert found["precision"]["f32-dq128"] == {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128,
    }
    assert "f16" in found["precision"] and set(found["KV cache"]) == {"kv-u4", "kv-full"}
    assert "cores" not in found, "two cores leave no choice"


def test_what_a_device_does_anyway_is_not_tried() -> None:
    found = dict(steps(CORE_ULTRA))
    assert "f32" not in found["precision"] and "f16" not in found["precision"]
    assert found["precision"]["f32-dq128"] == {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
    assert {"fast-cores", "one-a-core", "threads-22", "threads-8", "threads-15"} == set(found["cores"])
    assert [what for what, _ in steps(CORE_ULTRA)] == ["precision", "KV cache", "cores"]


def test_a_processor_known_to_have_one_kind_of_core_is_not_asked_for_the_fast_ones() -> None:
    found = dict(steps(DeviceFacts("CPU", "f32", frozenset(), 8, 8, False)))
    assert set(found["cores"]) == {"threads-4", "threads-7"}


def test_other_devices() -> None:
    assert [what for what, _ in steps(DeviceFacts("GPU", "f16", frozenset({"FP16"}), 8, 8))] == [
        "precision",
        "KV cache",
    ]
    assert steps(DeviceFacts("NPU", None, frozenset(), 8, 8)) == []


def test_a_cache_that_is_not_compressed_is_of_the_precision_computed_in() -> None:
    """openvino-genai refuses any other on a CPU."""
    full = dict(steps(SERVER))["KV cache"]["kv-full"]
    assert combined({}, full, "bf16") == {"KV_CACHE_PRECISION": "bf16"}
    f32 = {"INFERENCE_PRECISION_HINT": "f32"}
    assert combined(f32, full, "bf16") == {**f32, "KV_CACHE_PRECISION": "f32"}
    assert "kv-full" not in dict(steps(DeviceFacts("CPU", None, frozenset(), 2, 2)))["KV cache"]


def test_only_a_cpu_is_told_about_threads() -> None:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 4, "SCHEDULING_CORE_TYPE": "PCORE_ONLY"}
    assert portable(settings, "CPU", "CPU") == settings
    assert portable(settings, "CPU", "GPU.1") == {"INFERENCE_PRECISION_HINT": "f32"}
    assert portable(settings, "GPU.0", "GPU.1") == settings
    assert numerics(settings) == {"INFERENCE_PRECISION_HINT": "f32"}


def test_every_drafter_of_the_registry_is_tried_the_promising_ones_first() -> None:
    from edgespec.arms import kinds

    found, left_out = ways(True, "CPU", ["CPU"], [1, 3, 5], [0.4], allow)
    assert left_out == ["no eagle3: the pair's draft is no EAGLE-3 head"]
    names = [arm.name for arm in found]
    assert names[:4] == ["draft-g3", "draft-g1", "draft-g5", "lookup"]
    families = {name.partition("-g")[0].partition("-t0")[0] for name in names if not name.startswith("native-guided")}
    wanted = set(kinds()) - {"plain", "eagle3", *FOR_SAMPLING_ONLY, "native-guided"}
    assert families == wanted
    assert set(PROMISING) <= set(kinds()), "a promising kind that does not exist"
    assert {"native-draft-g3", "dynamic-t0.4", "native-plain", "native-hybrid", "native-guided"} <= set(names)
    assert all(arm.gamma is None for arm in found if arm.name == "native-hybrid")


def test_a_head_drafts_in_its_own_way_alone() -> None:
    found, left_out = ways(True, "CPU", ["CPU"], [1, 3], [0.4], allow, head=True)
    names = [arm.name for arm in found]
    assert names[:3] == ["eagle3-g3", "eagle3-g1", "lookup"]
    assert not any("draft" in name or "hybrid" in name for name in names)
    assert "no native-draft: the pair's draft is an EAGLE-3 head" in left_out


def test_draft_devices_multiply_the_ways_that_draft() -> None:
    found, _ = ways(True, "CPU", ["CPU", "GPU"], [3], [0.4], allow)
    names = [arm.name for arm in found]
    assert {"draft-g3", "draft-g3@GPU", "native-hybrid", "native-hybrid@GPU"} <= set(names)
    assert names.count("lookup") == 1 and "lookup@GPU" not in names
    assert {arm.draft_device for arm in found if arm.name.startswith("draft-g3")} == {"CPU", "GPU"}


def test_what_cannot_run_is_left_out_with_its_reason() -> None:
    def check(device: str, mode: str) -> None:
        if mode == "native":
            raise EdgespecError("an NPU runs models of fixed shape only")

    found, left_out = ways(False, "NPU", ["NPU"], [3], [0.4], check)
    assert [arm.name for arm in found] == ["lookup"]
    assert "no draft: the pair has no draft" in left_out
    assert "no native-copy: an NPU runs models of fixed shape only" in left_out


@pytest.mark.parametrize(("draft_device", "threads"), [("CPU", True), ("GPU", False)])
def test_settings_are_part_of_an_arms_name(draft_device: str, threads: bool) -> None:
    arm = next(arm for arm in ways(True, "CPU", [draft_device], [3], [], allow)[0] if arm.gamma)
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": 4}
    dressed = under(arm, "threads-4", settings, "CPU")
    assert dressed.name == f"{arm.name} [threads-4]" and bare_name(dressed) == arm.name
    assert ("INFERENCE_NUM_THREADS" in dressed.settings) is threads
