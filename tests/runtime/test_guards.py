"""What stands before loading: memory, the model cache, probes of risky drivers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgespec import EdgespecError, Pair, SpecPipeline
from edgespec.runtime import memory, probe
from edgespec.runtime.memory import Shape, estimate, require_room
from edgespec.runtime.model_cache import ModelCache
from edgespec.runtime.modes import Way

DRAFT, COPY = Way("native", "draft"), Way("native", "adaptive-copy")
PROMPT = "def add(a, b):\n    return"


@pytest.fixture(scope="module")
def pair(tiny_pair: Path) -> Pair:
    return Pair.open(tiny_pair)


def test_an_estimate_adds_up_what_is_on_disk_and_in_the_config(pair: Pair) -> None:
    found = estimate(pair, DRAFT, context=100, cache_precision="f32")
    assert found.target_bytes == (pair.target / "openvino_model.bin").stat().st_size
    assert pair.draft is not None and found.draft_bytes == (pair.draft / "openvino_model.bin").stat().st_size
    assert found.cache_bytes == 2 * (2 + 1) * 2 * 16 * 100 * 4, "keys and values, 3 layers, 2 heads of 16, f32"
    assert estimate(pair, COPY).draft_bytes == 0
    assert estimate(pair, COPY).context == 512, "the model's own context is shorter than what is planned for"
    assert "KV caches" in found.sentence() and "for 100 tokens" in found.sentence()


def test_a_config_that_tells_little_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match=r"has no readable config\.json"):
        Shape.read(tmp_path)
    (tmp_path / "config.json").write_text('{"hidden_size": 64, "num_attention_heads": 4}', encoding="utf-8")
    shape = Shape.read(tmp_path)
    assert (shape.kv_width, shape.intermediate, shape.context) == (64, 256, None)


def test_what_does_not_fit_is_refused_with_figures_and_what_would(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    needed = estimate(pair, DRAFT, context=512).total_bytes
    assert require_room(pair, DRAFT, context=512, free_bytes=2 * needed).total_bytes == needed
    with pytest.raises(EdgespecError, match=r"needs about .* GB are free; what would fit: context=256"):
        require_room(pair, DRAFT, context=512, free_bytes=needed - 1)
    without = estimate(pair, COPY, context=512).total_bytes
    with pytest.raises(EdgespecError, match="mode 'native-adaptive-copy', which needs no draft"):
        require_room(pair, DRAFT, context=512, free_bytes=round(without / 0.95) + 2)
    with pytest.raises(EdgespecError, match="close other programs, or take a smaller model"):
        require_room(pair, DRAFT, context=512, free_bytes=1000)


def test_the_offers_of_a_refusal_do_fit(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    free = estimate(pair, DRAFT, context=512).total_bytes - 1
    with pytest.raises(EdgespecError) as refusal:
        require_room(pair, DRAFT, context=512, free_bytes=free)
    context = int(str(refusal.value).partition("context=")[2].partition(";")[0])
    assert require_room(pair, DRAFT, context=context, free_bytes=free).context == context


def test_auto_takes_what_fits_and_an_explicit_mode_is_refused(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair.open(tiny_pair)
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    limit = round(estimate(pair, COPY).total_bytes / 0.95) + 2
    with SpecPipeline(tiny_pair, memory_limit_bytes=limit) as opened:
        result = opened.generate(PROMPT, max_new_tokens=3)
        assert result.metrics.mode == "native-adaptive-copy" and "GB are free" in result.metrics.why
    with pytest.raises(EdgespecError, match="'tiny' in mode 'native-draft' needs about"):
        SpecPipeline(tiny_pair, mode="native-draft", memory_limit_bytes=limit)
    with pytest.raises(EdgespecError, match="needs about"):
        SpecPipeline(tiny_pair, memory_limit_bytes=1)


def test_compiled_models_are_kept_where_openvino_takes_them_back(tiny_pair: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    with SpecPipeline(tiny_pair, mode="native-copy", cache_dir=folder) as opened:
        assert f"compiled models are kept in '{folder}': 0 MB of at most 8,000 MB" in str(opened.explain())
        assert not list(folder.glob("*.blob")), "a CPU would write them at every start and never read them"
        assert opened._the_engines._cached("CPU") == {}
        assert opened._the_engines._cached("GPU") == {"CACHE_DIR": str(folder)} and folder.is_dir()
    with SpecPipeline(tiny_pair, mode="native-copy", cache_dir=None) as without:
        assert "compiled models are not kept" in str(without.explain())
        assert without._the_engines._cached("GPU") == {}


def test_the_cache_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / f"{name}.blob"
        path.write_bytes(bytes(100))
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    cache = ModelCache(tmp_path, limit_bytes=150)
    assert cache.size_bytes == 300 and cache.prune() == 200
    assert [path.name for path in tmp_path.iterdir()] == ["new.blob"]
    assert ModelCache(tmp_path, limit_bytes=1).prune() == 0, "what was just used stays"
    assert ModelCache(tmp_path / "none").prune() == 0


def test_a_probe_tells_success_a_sentence_and_an_abort_apart() -> None:
    assert probe.attempt("os:getcwd", {}) is None
    reason = probe.attempt("edgespec.devices:require_device", {"name": "TPU"})
    assert reason is not None and reason.startswith("there is no device 'TPU'")
    aborted = probe.attempt("os:abort", {})
    assert aborted is not None and ("ended by signal 6" in aborted or "exit code" in aborted)


def test_a_probe_has_an_end() -> None:
    reason = probe.attempt("multiprocessing.connection:wait", {"object_list": [], "timeout": 60}, timeout_s=0.5)
    assert reason == "it did not come back within 0.5 s"


def test_a_frozen_apps_probe_goes_through_multiprocessing() -> None:
    """What `attempt` does in a frozen app, whose child is the app itself."""
    assert probe._spawn("os:getcwd", {}, 60) is None
    reason = probe._spawn("edgespec.devices:require_device", {"name": "TPU"}, 60)
    assert reason is not None and reason.startswith("there is no device 'TPU'")
    aborted = probe._spawn("os:abort", {}, 60)
    assert aborted is not None and ("ended by signal 6" in aborted or "exit code" in aborted)
    late = probe._spawn("multiprocessing.connection:wait", {"object_list": [], "timeout": 60}, 2.5)
    assert late == "it did not come back within 2.5 s"


def test_which_way_a_probe_goes_and_that_it_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_spawn", lambda *_: "spawned")
    monkeypatch.setattr(probe, "_interpret", lambda *_: "interpreted")
    assert probe.attempt("os:getcwd", {}) == "interpreted"
    monkeypatch.setattr(sys, "executable", str(Path("C:/Apps/Notes.exe")))
    assert probe.attempt("os:getcwd", {}) == "spawned", "the executable is no Python: Nuitka, an embedded interpreter"
    monkeypatch.setattr(sys, "executable", str(Path("C:/Apps/python.exe")))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert probe.attempt("os:getcwd", {}) == "spawned"
    monkeypatch.setattr(sys, "argv", ["Notes.exe", "--multiprocessing-fork", "pipe_handle=4"])
    reason = probe.attempt("os:getcwd", {})
    assert reason is not None and "must call multiprocessing.freeze_support() before anything else" in reason


def test_a_child_that_cannot_be_started_is_a_reason_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    reason = probe.attempt("os:getcwd", {})
    assert reason is not None and reason.startswith("no process could be started for it: ")


def test_a_risky_device_is_probed_once_and_passed_over_when_its_driver_aborts(
    tiny_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.risky("GPU.1") and probe.risky("NPU") and not probe.risky("CPU")
    monkeypatch.setattr(probe, "risky", lambda device: True)
    real, calls = probe.attempt, list[str]()

    def attempt(call: str, arguments: dict[str, object]) -> str | None:
        calls.append(str(arguments["mode"]))
        return real(
            "os:abort" if arguments["mode"] == "hybrid" else call, {} if arguments["mode"] == "hybrid" else arguments
        )

    monkeypatch.setattr(probe, "attempt", attempt)
    for _ in range(2):
        with SpecPipeline(tiny_pair, cache_dir=tmp_path) as opened:
            metrics = opened.generate(PROMPT, max_new_tokens=3).metrics
            assert metrics.mode == "native-adaptive-copy"
            assert "was tried on CPU in a process of its own, and its process" in metrics.why
    assert calls == ["hybrid", "adaptive-copy", "hybrid"], "what went well is remembered, a failure is tried again"


def test_nothing_loads_on_a_device_so_auto_goes_on_on_the_cpu(tiny_pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgespec.runtime.engines import Engines

    monkeypatch.setenv("NPUW_DEVICES", "CPU")
    real = Engines._load

    def broken(self: Engines, way: Way, device: str, *rest: object) -> object:
        if device == "NPU":
            raise EdgespecError("the compiler is missing")
        return real(self, way, device, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Engines, "_load", broken)
    with SpecPipeline(tiny_pair, device="NPU") as opened:
        assert opened.generate(PROMPT, max_new_tokens=3).metrics.device == "CPU"
        assert "nothing could be loaded on NPU (the compiler is missing), so the CPU is used" in str(opened.explain())
    with pytest.raises(EdgespecError, match="the compiler is missing"):
        SpecPipeline(tiny_pair, device="NPU", mode="plain")
