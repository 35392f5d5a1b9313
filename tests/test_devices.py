from __future__ import annotations

import pytest

from edgespec.devices import MODES, default_precision, list_devices, require_device, require_mode
from edgespec.errors import EdgespecError
from edgespec.machine import describe, fingerprint
from edgespec.settings import PLAIN_CANDIDATES, same_as_default


def test_the_cpu_is_there_and_runs_every_mode() -> None:
    cpu = next(device for device in list_devices() if device.name == "CPU")
    assert cpu.full_name not in ("", "unknown")
    assert cpu.memory_bytes and cpu.memory_bytes > 1e9
    assert "FP32" in cpu.precisions
    assert cpu.modes == dict.fromkeys(MODES)


def test_an_emulated_npu_is_listed_with_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUW_DEVICES", "CPU")
    npu = next(device for device in list_devices() if device.name == "NPU")
    assert npu.modes["draft"] is None
    assert npu.modes["lookup"] is not None and "ignores prompt lookup" in npu.modes["lookup"]
    assert npu.modes["native"] is not None and "fixed shape" in npu.modes["native"]
    assert npu.modes["eagle3"] is not None and "tree of fixed size" in npu.modes["eagle3"]
    assert require_device("npu") == "NPU"
    with pytest.raises(EdgespecError, match="mode 'lookup' cannot run on NPU: openvino-genai ignores"):
        require_mode("NPU", "lookup")


def test_an_unknown_device_is_refused_with_what_there_is() -> None:
    assert require_device("cpu") == "CPU"
    assert require_device("auto") == "AUTO"
    with pytest.raises(EdgespecError, match=r"there is no device 'QPU' on this machine; OpenVINO finds CPU"):
        require_device("QPU")


def test_the_machine_is_described() -> None:
    machine = describe()
    assert machine["cpu"] and machine["logical_cores"] >= 1 and machine["memory_bytes"] > 0
    assert len(fingerprint()) == 16 and fingerprint() == fingerprint()


def test_settings_that_only_spell_out_the_default_are_not_tried() -> None:
    assert default_precision("CPU") in ("f32", "bf16", "f16") and default_precision("NOWHERE") is None
    assert same_as_default("f32") == {"f32"}
    assert same_as_default("bf16") == same_as_default(None) == frozenset()
    assert {"default", "f32"} <= set(PLAIN_CANDIDATES)
