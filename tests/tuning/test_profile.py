"""A profile is found where it was made and nowhere else, says why not, and leaves the rest of the manifest alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgespec import own_profiles
from edgespec import profile as profiles
from edgespec.errors import EdgespecError
from edgespec.pair import MANIFEST, Pair, fingerprint_of, read_manifest, write_manifest
from edgespec.profile import Gain, Here, MachineFacts, PlainDecoding, Profile, profile_for, save_profile

LAPTOP = MachineFacts(cpu="Core Ultra 7", physical_cores=16, logical_cores=22, system="Windows")
VERSIONS = {"edgespec": "0.1.0", "openvino": "2026.4.1", "openvino-genai": "2026.4.1"}
HERE = Here(LAPTOP, "Intel Arc", VERSIONS)


def make_profile(**changes: Any) -> Profile:
    values: dict[str, Any] = {
        "machine_fingerprint": "0123456789abcdef",
        "machine": LAPTOP,
        "device": "GPU",
        "device_name": "Intel Arc",
        "draft_device": "GPU",
        "draft_devices": ("GPU",),
        "engine": "genai",
        "mode": "draft",
        "gamma": 3,
        "threshold": None,
        "settings": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
        "tokens_per_second": 40.0,
        "plain": PlainDecoding(engine="genai", settings={}, tokens_per_second=25.0),
        "default_tokens_per_second": 25.0,
        "over_plain": Gain(geomean=1.6, ci95=(1.5, 1.7), verdict="faster", prompts=8),
        "over_default": Gain(geomean=1.6, ci95=(1.5, 1.7), verdict="faster", prompts=8),
        "quality": None,
        "prompts": "quick",
        "prompts_sha256": "ab" * 32,
        "max_new_tokens": 64,
        "tried": 12,
        "stopped_because": "the winner is clear",
        "seconds": 200.0,
        "at": "2026-11-28T15:00:00.000+00:00",
        "versions": VERSIONS,
    }
    return Profile(**(values | changes))


@pytest.fixture
def tuned(make_pair: Callable[..., Path]) -> Path:
    root = make_pair()
    save_profile(root, make_profile())
    return root


def test_a_profile_comes_back_as_it_was_saved(tuned: Path) -> None:
    found, reason = profile_for(Pair.open(tuned), "gpu", here=HERE)
    assert found == make_profile()
    assert "2026-11-28" in reason and "draft-g3" in reason and "1.60x over the best plain setting" in reason
    assert found.settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == 128


def test_saving_changes_nothing_else_in_the_pair(make_pair: Callable[..., Path]) -> None:
    root = make_pair()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    manifest = read_manifest(root)
    save_profile(root, make_profile())
    after = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert {path for path in after if before.get(path) != after[path]} == {root / MANIFEST}
    assert read_manifest(root).model_copy(update={"profiles": []}) == manifest
    Pair.open(root)


def test_a_new_profile_replaces_only_this_machines_last_one_for_the_device(tuned: Path) -> None:
    other_machine = make_profile(machine=LAPTOP.model_copy(update={"cpu": "Core Ultra 5"}))
    foreign = {"schema_version": 99, "of": "a later edgespec"}
    for more in (other_machine, make_profile(device="CPU")):
        save_profile(tuned, more)
    manifest = read_manifest(tuned)
    write_manifest(tuned, manifest.model_copy(update={"profiles": [foreign, *manifest.profiles]}))
    newer = make_profile(versions={**VERSIONS, "openvino": "2026.5.0"}, gamma=5)
    save_profile(tuned, newer)
    entries = read_manifest(tuned).profiles
    assert entries[0] == foreign
    assert [(entry["device"], entry["machine"]["cpu"], entry["gamma"]) for entry in entries[1:]] == [
        ("GPU", "Core Ultra 5", 3),
        ("CPU", "Core Ultra 7", 3),
        ("GPU", "Core Ultra 7", 5),
    ]


@pytest.mark.parametrize(
    ("device", "changes", "words"),
    [
        ("GPU", {"machine": LAPTOP.model_copy(update={"cpu": "Ryzen"})}, ["another machine", "Core Ultra 7", "Ryzen"]),
        ("GPU", {"machine": LAPTOP.model_copy(update={"logical_cores": 8})}, ["another machine", "22 logical cores"]),
        ("CPU", {}, ["tuned for GPU, not for CPU", "--device CPU"]),
        ("GPU", {"device_name": "Intel Iris"}, ["'Intel Arc'", "here it is 'Intel Iris'"]),
        (
            "GPU",
            {"versions": {**VERSIONS, "openvino": "2027.0"}},
            ["other versions", "openvino 2026.4.1 (here 2027.0)"],
        ),
    ],
)
def test_a_profile_made_elsewhere_is_not_used(
    tuned: Path, device: str, changes: dict[str, Any], words: list[str]
) -> None:
    here = Here(**({"machine": LAPTOP, "device_name": "Intel Arc", "versions": VERSIONS} | changes))
    found, reason = profile_for(Pair.open(tuned), device, here=here)
    assert found is None
    assert all(word in reason for word in words), reason


def test_of_several_that_do_not_hold_the_nearest_one_says_why(tuned: Path) -> None:
    save_profile(tuned, make_profile(machine=LAPTOP.model_copy(update={"cpu": "Ryzen"})))
    newer = Here(LAPTOP, "Intel Arc", {**VERSIONS, "openvino-genai": "2027.0"})
    _, reason = profile_for(Pair.open(tuned), "GPU", here=newer)
    assert "openvino-genai 2026.4.1 (here 2027.0)" in reason


def test_a_draft_device_that_is_asked_for_has_to_be_the_profiles(tuned: Path) -> None:
    pair = Pair.open(tuned)
    assert profile_for(pair, "GPU", "gpu", HERE)[0] == make_profile()
    found, reason = profile_for(pair, "GPU", "CPU", HERE)
    assert found is None
    assert "draft on GPU, and CPU was asked for" in reason


def test_where_no_draft_paid_any_device_that_was_tried_for_it_will_do(make_pair: Callable[..., Path]) -> None:
    root = make_pair()
    off = make_profile(
        mode="plain", gamma=None, draft_device=None, draft_devices=("GPU", "CPU"), over_plain=None, over_default=None
    )
    save_profile(root, off)
    pair = Pair.open(root)
    found, reason = profile_for(pair, "GPU", "CPU", HERE)
    assert found == off and not off.speculative
    assert "nothing speculative was faster" in reason
    found, reason = profile_for(pair, "GPU", "NPU", HERE)
    assert found is None
    assert "without a draft on NPU" in reason and "--draft-device NPU" in reason


def test_a_pair_without_a_profile_says_how_to_make_one(make_pair: Callable[..., Path]) -> None:
    root = make_pair()
    found, reason = profile_for(Pair.open(root), "CPU", here=HERE)
    assert found is None
    assert f"edgespec tune {root} --device CPU" in reason
    with pytest.raises(EdgespecError, match="no tuned profile"):
        profiles.require_profile(Pair.open(root), "CPU")


def test_entries_that_cannot_be_read_are_passed_over(make_pair: Callable[..., Path]) -> None:
    root = make_pair()
    entries = [{"device": "CPU"}, {"schema_version": 1, "device": "CPU"}, {"schema_version": 2}]
    write_manifest(root, read_manifest(root).model_copy(update={"profiles": entries}))
    found, reason = profile_for(Pair.open(root), "CPU", here=HERE)
    assert (found, reason) == (None, "the pair's profiles are of another edgespec; tune it again")


def test_this_machine_recognises_itself(make_pair: Callable[..., Path]) -> None:
    root = make_pair()
    here = Here.on("CPU")
    assert here.machine.cpu and set(here.versions) == set(profiles.PACKAGES)
    mine = make_profile(
        machine=here.machine,
        device="CPU",
        device_name=here.device_name,
        versions=here.versions,
        draft_device="CPU",
        draft_devices=("CPU",),
    )
    save_profile(root, mine)
    assert profile_for(Pair.open(root), "CPU")[0] == mine
    assert profiles.require_profile(Pair.open(root), "CPU", "CPU")[0] == mine


@pytest.fixture
def read_only(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair with a profile, in a folder that may not be written to, and a user with a folder of profiles."""
    real = write_manifest

    def refused(root: Path, manifest: Any) -> None:
        if root == tuned:
            raise PermissionError(13, "Permission denied", str(root / MANIFEST))
        real(root, manifest)

    monkeypatch.setattr(profiles, "write_manifest", refused)
    monkeypatch.setenv(own_profiles.VARIABLE, str(tmp_path / "mine"))
    return tuned


def test_a_pair_that_may_not_be_written_to_has_its_profile_beside_the_user(read_only: Path, tmp_path: Path) -> None:
    before = (read_only / MANIFEST).read_bytes()
    newer = make_profile(gamma=5, at="2026-11-29T15:00:00+00:00")
    file = save_profile(read_only, newer)
    assert file.parent == tmp_path / "mine" and (read_only / MANIFEST).read_bytes() == before
    pair = Pair.open(read_only)
    assert profile_for(pair, "GPU", here=HERE)[0] == newer, "the newest counts, wherever it lies"
    copy = Path(shutil.copytree(read_only, tmp_path / "copy"))
    assert profile_for(Pair.open(copy), "GPU", here=HERE)[0] == newer, "a copy is the same pair"
    latest = make_profile(gamma=2, at="2026-11-30T15:00:00+00:00")
    save_profile(copy, latest)
    assert profile_for(Pair.open(copy), "GPU", here=HERE)[0] == latest
    again = make_profile(gamma=1, at="2026-12-01T15:00:00+00:00")
    assert save_profile(read_only, again) == file
    assert [entry["gamma"] for entry in own_profiles.read(fingerprint_of(pair.manifest))] == [1]
    elsewhere = Here(LAPTOP.model_copy(update={"cpu": "Ryzen"}), "Intel Arc", VERSIONS)
    assert profile_for(pair, "GPU", here=elsewhere)[0] is None, "a home folder may be shared by machines"


def test_nowhere_to_write_is_told_with_both_reasons(read_only: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(EdgespecError, match=r"neither into the pair \(.*Permission denied.*set EDGESPEC_PROFILES"):
        save_profile(read_only, make_profile())
    assert own_profiles.read("0" * 64) == []


@pytest.mark.parametrize(("platform", "ending"), [("win32", "edgespec"), ("darwin", "edgespec"), ("linux", "edgespec")])
def test_where_a_users_profiles_lie(
    platform: str, ending: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(own_profiles.VARIABLE, raising=False)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "local"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    home = tmp_path / ("Library/Application Support" if platform == "darwin" else "local")
    assert own_profiles.folder(platform) == home / ending / "profiles"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert own_profiles.folder("linux") == tmp_path / ".local" / "share" / "edgespec" / "profiles"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "draft-g3"),
        ({"engine": "native", "mode": "copy", "gamma": None, "draft_device": None}, "native-copy"),
        ({"gamma": None, "threshold": 0.4}, "draft-t0.4"),
        ({"draft_device": "CPU"}, "draft-g3@CPU"),
        ({"mode": "plain", "gamma": None, "draft_device": None}, "plain"),
    ],
)
def test_a_profile_is_named_as_the_bench_names_arms(changes: dict[str, Any], name: str) -> None:
    assert make_profile(**changes).name == name
