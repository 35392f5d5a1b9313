"""`edgespec tune` as a user types it: on a tiny real pair once, and on a scripted world for what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workbench import Workbench

from edgespec import cli
from edgespec.arms import kinds
from edgespec.commands import tune as command
from edgespec.pair import MANIFEST, Pair, read_manifest
from edgespec.profile import Profile, profile_for
from edgespec.tuning import modes


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; exit code, stdout, stderr. With `bench`, in its world."""

    def run(*words: str, bench: Workbench | None = None) -> tuple[int, str, str]:
        if bench is not None:
            stage = SimpleNamespace(workshop=lambda pair, prompts: bench.world())
            monkeypatch.setattr(command, "load_stage", lambda name: stage)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr("sys.argv", ["edgespec", "tune", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return run


def test_a_real_pair_is_tuned_and_its_profile_found(
    tiny_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tune: Callable[..., tuple[int, str, str]]
) -> None:
    """Few ways to decode, so that the budget does not decide on a slow machine."""
    known = {name: kind for name, kind in kinds().items() if name in ("plain", "draft", "native-copy")}
    monkeypatch.setattr(modes, "kinds", lambda: known)
    pair = tmp_path / "pair"
    shutil.copytree(tiny_pair, pair)
    code, out, err = tune(str(pair), "--budget-minutes", "30", "--max-new-tokens", "8", "--gamma", "2", "--json")
    assert code == 0, err
    profile = Profile.model_validate(json.loads(out.splitlines()[-1]))
    assert profile.device == "CPU" and profile.prompts == "quick"
    assert profile.quality is not None and profile.quality.tokens > 100 and profile.quality.kl_nats < 0.01
    opened = Pair.open(pair)  # every hash still holds
    found, reason = profile_for(opened, "CPU")
    assert found == profile, reason
    assert read_manifest(pair).target == read_manifest(tiny_pair).target
    assert "written to:" in err and "What was tried" in err


def test_the_answer_is_the_profile_and_the_rest_goes_to_stderr(
    make_pair: Callable[..., Path], tune: Callable[..., tuple[int, str, str]]
) -> None:
    pair = make_pair()
    bench = Workbench(speeds={"draft-g3": 1.6}, settings={"INFERENCE_PRECISION_HINT=f32": 1.4}, fails={"lookup"})
    code, out, err = tune(str(pair), "--json", bench=bench)
    assert code == 0, err
    profile = json.loads(out.splitlines()[-1])
    assert profile["mode"] == "draft" and profile["settings"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert profile == read_manifest(pair).profiles[-1]
    assert "Tuned: draft-g3 with INFERENCE_PRECISION_HINT=f32" in err
    assert "Over the untouched default: 2." in err
    assert "failed: lookup cannot be loaded" in err and "surely slower" in err
    assert "f32 is INFERENCE_PRECISION_HINT=f32" in err
    assert "top-1 agreement 100.00%" in err


def test_a_plan_says_what_and_how_long_and_writes_nothing(
    make_pair: Callable[..., Path], tune: Callable[..., tuple[int, str, str]]
) -> None:
    pair = make_pair()
    before = (pair / MANIFEST).read_bytes()
    bench = Workbench(load_s=3.0)
    code, out, err = tune(str(pair), "--plan", "--json", "--gamma", "2,4", "--budget-minutes", "1", bench=bench)
    assert code == 0, err
    planned = json.loads(out.splitlines()[-1])
    parts = {part["name"]: part for part in planned["parts"]}
    assert parts["settings: precision"]["tries"] == ["f32", "f32-dq0", "f32-dq64", "f32-dq128"]
    assert {"draft-g2", "draft-g4", "lookup", "native-hybrid"} <= set(parts["ways to decode"]["tries"])
    assert planned["load_s"] == 3.0 and planned["answer_s"] == pytest.approx(64 * 0.02, rel=0.2)
    assert not planned["enough"] and "too short to look at everything" in err
    assert all(part["least_s"] <= part["most_s"] for part in planned["parts"])
    assert bench.loads == 1 and bench.loaded == 0 and (pair / MANIFEST).read_bytes() == before


def test_a_plan_is_kept_to(make_pair: Callable[..., Path], tune: Callable[..., tuple[int, str, str]]) -> None:
    """With time for everything, a tune lasts between the least and the most of its plan, in the world's own clock."""
    pair = make_pair()
    _, out, _ = tune(str(pair), "--plan", "--json", bench=Workbench())
    planned = json.loads(out.splitlines()[-1])["parts"]
    bench = Workbench(speeds={"draft-g3": 1.5})
    tune(str(pair), "--budget-minutes", "60", bench=bench)
    least, most = (sum(part[key] for part in planned) for key in ("least_s", "most_s"))
    assert 0.8 * least < bench.now < 1.8 * most


def test_ctrl_c_leaves_the_pair_as_it_was(
    make_pair: Callable[..., Path], tune: Callable[..., tuple[int, str, str]]
) -> None:
    pair = make_pair()
    before = (pair / MANIFEST).read_bytes()
    code, _, err = tune(str(pair), bench=Workbench(interrupt_after=50))
    assert code == 130 and "Stopped. The pair is as it was" in err
    assert (pair / MANIFEST).read_bytes() == before


def test_a_pair_that_may_not_be_written_to_keeps_its_profile_elsewhere(
    make_pair: Callable[..., Path],
    tune: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pair = make_pair()

    def refused(root: Path, manifest: Any) -> None:
        raise OSError(30, "Read-only file system", str(root / MANIFEST))

    monkeypatch.setattr("edgespec.profile.write_manifest", refused)
    monkeypatch.setenv("EDGESPEC_PROFILES", str(tmp_path / "mine"))
    code, _, err = tune(str(pair), bench=Workbench(speeds={"draft-g3": 1.6}))
    assert code == 0 and f"'{pair}' may not be written to, so the profile is kept for you alone" in err
    (file,) = (tmp_path / "mine").iterdir()
    assert f"written to: {file}" in err and json.loads(file.read_bytes())[0]["mode"] == "draft"
    assert read_manifest(pair).profiles == []


def test_no_time_writes_no_profile_and_says_so(
    make_pair: Callable[..., Path], tune: Callable[..., tuple[int, str, str]]
) -> None:
    pair = make_pair()
    code, out, err = tune(str(pair), "--budget-minutes", "0.1", bench=Workbench(speeds={"draft-g3": 3.0}, load_s=5.0))
    assert (code, out) == (2, "") and "Stopped. The pair is as it was; nothing was measured" in err
    assert "before any way to speculate was held against plain decoding; give it more with --budget-minutes" in err
    assert read_manifest(pair).profiles == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gamma", "two"], "error: --gamma got 'two'; give numbers, such as --gamma 1,2,3,5"),
        (["--threshold", "high"], "error: --threshold got 'high'; give numbers"),
        (["--gamma", "0"], "different whole numbers from 1 to 32"),
        (["--device", "AUTO"], "a profile is for one device"),
        (["--device", "TPU"], "there is no device 'TPU'"),
        (["--budget-minutes", "0"], "a budget is above 0"),
        (["--least-agreement", "2"], "an agreement lies between 0 and 1"),
        (["--prompts", "nowhere.jsonl"], "--prompts got 'nowhere.jsonl', which is no file"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    make_pair: Callable[..., Path], tune: Callable[..., tuple[int, str, str]], words: list[str], sentence: str
) -> None:
    code, out, err = tune(str(make_pair()), *words)
    assert (code, out) == (2, "")
    assert sentence in err and "Traceback" not in err


def test_prompts_of_ones_own_are_asked(
    tiny_pair: Path, tmp_path: Path, tune: Callable[..., tuple[int, str, str]]
) -> None:
    own = tmp_path / "mine.jsonl"
    own.write_text("".join(json.dumps({"prompt": f"def f{i}(a):"}) + "\n" for i in range(20)), encoding="utf-8")
    code, out, err = tune(str(tiny_pair), "--plan", "--json", "--prompts", str(own), "--max-new-tokens", "4")
    assert code == 0, err
    planned: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert (planned["prompts"], planned["prompt_count"]) == ("mine.jsonl", 12)
