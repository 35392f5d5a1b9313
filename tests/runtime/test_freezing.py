"""An app frozen by PyInstaller answers, uses its profile and survives a driver's abort. Opt-in: a build takes minutes.

EDGESPEC_TEST_FREEZING=1 pytest tests/runtime/test_freezing.py, with PyInstaller installed. What the hook says is always
tested.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

APP = """
import json, multiprocessing, sys
from edgespec import SpecPipeline
from edgespec.runtime import probe

if __name__ == "__main__":
    multiprocessing.freeze_support()
    with SpecPipeline(sys.argv[1], device="CPU") as pipeline:
        result = pipeline.generate("def add(a, b):", max_new_tokens=8)
        explained = str(pipeline.explain())
    print(json.dumps({
        "tokens": len(result.token_ids), "mode": result.metrics.mode, "explained": explained,
        "probe": probe.attempt("os:getcwd", {}), "abort": probe.attempt("os:abort", {}),
        "refused": probe.attempt("edgespec.devices:require_device", {"name": "TPU"}),
    }))
"""


def test_pyinstaller_finds_the_hook() -> None:
    (found,) = [entry.load()() for entry in entry_points(group="pyinstaller40") if entry.value.startswith("edgespec.")]
    (folder,) = map(Path, found)
    hook = (folder / "hook-edgespec.py").read_text(encoding="utf-8")
    compile(hook, "hook-edgespec.py", "exec")
    for name in ("edgespec.runtime", "edgespec.engine", "openvino_genai", "openvino_tokenizers"):
        assert name in hook
        importlib.import_module(name)


if os.environ.get("EDGESPEC_TEST_FREEZING"):

    def test_a_frozen_app_answers_and_outlives_a_driver(tiny_pair: Path, tmp_path: Path) -> None:
        source = tmp_path / "app.py"
        source.write_text(APP, encoding="utf-8")
        installed = tmp_path / "installed"  # PyInstaller does not see what an editable install redirects to
        repository = Path(__file__).parents[2]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(installed), str(repository)],
            check=True,
        )
        built = subprocess.run(
            [sys.executable, "-m", "PyInstaller", "--noconfirm", "--onedir", "--name", "app", str(source)],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr[-3000:]
        app = tmp_path / "dist" / "app" / ("app.exe" if sys.platform == "win32" else "app")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        ran = subprocess.run(
            [str(app), str(tiny_pair)], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        said = json.loads(ran.stdout.splitlines()[-1])
        assert said["tokens"] == 8 and said["mode"] == "native-hybrid"
        assert "no tuned profile" in said["explained"], "not: of other versions"
        assert said["probe"] is None and "there is no device 'TPU'" in said["refused"]
        assert "signal" in said["abort"] or "exit code" in said["abort"]
